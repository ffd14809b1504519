//! Every program as who types it sees it, and those that serve an API server's webhooks apart from the pilot.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::cluster::Cluster;
use tests::local::curl;
use tests::process::{Folder, Running, output, program, until};

use crate::kubernetes_api::free;

#[test]
fn help_version_and_exit_codes() {
    for name in ["sidecar", "pilot", "injector", "smi-adapter", "outrigger"] {
        let run = |args: &[&str]| output(Command::new(program(name)).args(args).stdin(Stdio::null()));
        let help = run(&["--help"]).unwrap();
        assert!(help.contains("Examples:\n") && help.contains("--log-level"), "{name}: {help}");
        assert!(run(&["--version"]).unwrap().contains(env!("CARGO_PKG_VERSION")), "{name}");
        let wrong = Command::new(program(name)).arg("--no-such-flag").output().unwrap();
        assert_eq!(wrong.status.code(), Some(2), "{name}");
    }
    let failing: [(&str, &[&str]); 3] = [
        ("injector", &["inject", "-f", "no-such-file"]),
        ("injector", &["serve", "--tls-cert", "no-such-file", "--tls-key", "no-such-key"]),
        ("smi-adapter", &["convert", "-f", "no-such-file"]),
    ];
    for (name, args) in failing {
        let failed = Command::new(program(name)).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&failed.stderr);
        assert!(failed.status.code() == Some(1) && said.contains("no-such-file"), "{name} {args:?}: {said}");
    }
}

/// A certificate that is its own CA, and its key, where a server reads them.
fn certificate(folder: &Folder, address: &str) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new([address.to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    std::fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
}

/// Posts, trusting the certificate that is in the folder now.
fn post(folder: &Folder, url: &str, body: &Value) -> Result<Value, String> {
    let trusted = folder.join("tls.crt");
    let trusted = trusted.display().to_string();
    let said = curl(&["--cacert", &trusted, "--data", &body.to_string(), url])?;
    serde_json::from_str(&said).map_err(|error| format!("{error}: {said}"))
}

fn serve(name: &str, address: &str, folder: &Folder, more: &[&str]) -> Running {
    certificate(folder, address.split(':').next().unwrap());
    let mut command = Command::new(program(name));
    command.args(["serve", "--webhook", address, "--tls-cert"]).arg(folder.join("tls.crt"));
    command.arg("--tls-key").arg(folder.join("tls.key")).args(more);
    let running = Running::start(&mut command, &folder.join(&format!("{name}.log")));
    let trusted = folder.join("tls.crt").display().to_string();
    until(name, || curl(&["--cacert", &trusted, &format!("https://{address}/healthz")]));
    running
}

#[test]
fn the_injector_apart_from_the_pilot() {
    let (folder, address) = (Folder::new("injector"), "127.0.20.61:15017");
    let settings = folder.join("settings.json");
    let says = |tag: &str| {
        let image = json!({"repository": "mesh/outrigger", "tag": tag, "pullPolicy": "Never"});
        std::fs::write(&settings, json!({"image": image}).to_string()).unwrap();
    };
    says("1.0");
    let _injector = serve("injector", address, &folder, &["--settings", settings.to_str().unwrap()]);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "a"}]}});
    let request =
        json!({"uid": "u", "operation": "CREATE", "kind": {"kind": "Pod"}, "namespace": "shop", "object": pod});
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let patched = |tag: &str| {
        let answer = post(&folder, &format!("https://{address}/inject"), &review)?;
        let patch = answer["response"]["patch"].as_str().ok_or(answer.to_string())?;
        let decoded = output(Command::new("sh").args(["-c", &format!("echo {patch} | base64 -d")]))?;
        if decoded.contains(&format!("mesh/outrigger:{tag}")) { Ok(()) } else { Err(decoded) }
    };
    patched("1.0").unwrap();
    says("2.0");
    until("the new settings", || patched("2.0"));
    // What cannot be read changes nothing.
    std::fs::write(&settings, "{").unwrap();
    certificate(&folder, "127.0.20.61");
    until("the new certificate", || patched("2.0"));
    let wrong = json!({"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit", "metadata": {"name": "s"}, "spec": {}});
    let mut review = review.clone();
    review["request"]["object"] = wrong;
    let answer = post(&folder, &format!("https://{address}/validate"), &review).unwrap();
    assert_eq!(answer["response"]["allowed"], false, "{answer}");
}

#[test]
fn the_smi_adapter_apart_from_the_pilot() {
    let (folder, address) = (Folder::new("smi-adapter"), "127.0.20.62:15017");
    let _adapter = serve("smi-adapter", address, &folder, &[]);
    let object = json!({"apiVersion": "specs.smi-spec.io/v1alpha1", "kind": "TCPRoute", "metadata": {"name": "r"}});
    let request = json!({"uid": "u", "desiredAPIVersion": "specs.smi-spec.io/v1alpha4", "objects": [object]});
    let review = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request});
    let answer = post(&folder, &format!("https://{address}/convert"), &review).unwrap();
    assert_eq!(answer["response"]["convertedObjects"][0]["apiVersion"], "specs.smi-spec.io/v1alpha4", "{answer}");
    let file = folder.join("split.yaml");
    std::fs::write(&file, "{apiVersion: split.smi-spec.io/v1alpha2, kind: TrafficSplit, metadata: {name: a}}").unwrap();
    assert!(convert(&file).contains("split.smi-spec.io/v1alpha4"));
}

fn convert(file: &Path) -> String {
    output(Command::new(program("smi-adapter")).args(["convert", "-f"]).arg(file)).unwrap()
}

/// A pilot that is not the injector converts SMI's versions all the same: without that nothing of SMI could be read.
pub(crate) fn without_the_injector(cluster: &Cluster) {
    let (webhook, monitoring) = (free(), free());
    let mut pilot = cluster.run(program("pilot"));
    pilot.arg("--kubeconfig").arg(cluster.kubeconfig()).args(["--without", "injector,metrics-api"]);
    pilot.args(["--webhook", &webhook, "--monitoring", &monitoring, "--xds", &free(), "--secure-xds", &free()]);
    let _pilot = Running::start(&mut pilot, &cluster.folder.join("without-injector.log"));
    until("that pilot", || curl(&[&format!("http://{monitoring}/ready")]));
    let mut answers = Command::new("curl");
    answers.args([
        "--silent",
        "--show-error",
        "--insecure",
        "--data",
        "{}",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code} ",
    ]);
    answers.args(["inject", "validate", "convert"].map(|path| format!("https://{webhook}/{path}")));
    // One `--output` is for one address.
    answers.args(["--output", "/dev/null"].repeat(2));
    let said = answers.output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&said.stdout).trim(),
        "404 404 400",
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
}
