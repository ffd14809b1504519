//! gRPC without a proxy: an unmodified grpcio client gets the split and mTLS from the pilot.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use tests::local::LocalMesh;
use tests::process::{output, program, until};

const CALLS: usize = 300;

#[test]
fn a_client_without_a_proxy() {
    let Some(python) = std::env::var_os("GRPC_PYTHON") else {
        eprintln!("GRPC_PYTHON is not set: gRPC was not called without a proxy");
        return;
    };
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mesh = LocalMesh::start(&manifest.join("manifests"), "grpc");
    let certificates = mesh.file("certificates");
    let token = mesh.token("shop", "web").unwrap();
    let mut issue = Command::new(program("outrigger"));
    issue.args(["cert", "issue", "--pilot", mesh.xds()]).arg("--token").arg(&token).arg("--out").arg(&certificates);
    output(&mut issue).unwrap();
    let mut bootstrap = Command::new(program("outrigger"));
    bootstrap.args(["bootstrap", "web", "-n", "shop", "--pilot", mesh.xds()]).arg("--grpc").arg(&certificates);
    let file = mesh.file("grpc.json");
    std::fs::write(&file, output(&mut bootstrap).unwrap()).unwrap();
    let client = |target: &str, count: usize| {
        let mut client = Command::new(&python);
        client.env("GRPC_XDS_BOOTSTRAP", &file).arg(manifest.join("grpc/client.py")).args([target, &count.to_string()]);
        output(&mut client)
    };
    let target = "xds:///api.shop.svc.cluster.local:9000";
    until("the first answer", || client(target, 1));
    let answers: Vec<String> = client(target, CALLS).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), CALLS);
    let second = answers.iter().filter(|app| *app == "api-v2").count() as f64;
    let deviation = (CALLS as f64 * 0.25 * 0.75).sqrt();
    assert!((second - CALLS as f64 * 0.25).abs() < 4.0 * deviation, "{second} of {CALLS}");
    // Who has no certificate of the mesh is refused there, so what was answered was asked by mTLS.
    std::fs::write(certificates.join("cert-chain.pem"), "").unwrap();
    assert!(client(target, 1).is_err());
}
