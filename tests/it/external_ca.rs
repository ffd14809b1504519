//! Certificates of a CA beside the pilot: nobody trusts them before its roots are there; then they are as good as the pilot's own, and
//! say who their owner is. That CA is a second pilot with a folder of its own; `tests/external-ca/run` does the same with pods and istiod.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::cluster::Cluster;
use tests::local::curl;
use tests::process::{Running, output, program, until};

use crate::kubernetes_api::free;

/// The workloads' addresses, which no example uses.
const WEB: &str = "127.0.30.11";
const API: &str = "127.0.30.12";
const OLD: &str = "127.0.30.13";

/// Only `web` may call `api`.
const ACCESS: &str = "---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all, namespace: bank}
spec: {matches: [{name: all, pathRegex: \".*\", methods: [\"*\"]}]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: api, namespace: bank}
spec:
  destination: {kind: ServiceAccount, name: api, namespace: bank}
  sources: [{kind: ServiceAccount, name: web, namespace: bank}]
  rules: [{kind: HTTPRouteGroup, name: all, matches: [all]}]
";

struct Ca {
    process: Running,
    address: String,
    state: PathBuf,
}

impl Ca {
    fn start(folder: &Path) -> Self {
        let (state, manifests, monitoring, secure) = (folder.join("ca"), folder.join("none"), free(), free());
        std::fs::create_dir_all(&manifests).unwrap();
        let mut command = Command::new(program("pilot"));
        command.arg("--manifests").arg(manifests).arg("--state").arg(&state);
        command.args([
            "--xds",
            &free(),
            "--secure-xds",
            &secure,
            "--monitoring",
            &monitoring,
            "--log-level",
            "info,pilot::ca=debug",
        ]);
        let process = Running::start(&mut command, &folder.join("ca.log"));
        until("the other CA", || curl(&[&format!("http://{monitoring}/ready")]));
        Self { process, address: secure.replace("127.0.0.1", "localhost"), state }
    }

    /// How many certificates it has made for an account.
    fn signed(&self, account: &str) -> usize {
        let said = self.process.said();
        said.lines().filter(|line| line.contains("certificate issued") && line.contains(account)).count()
    }
}

/// Starts a workload's sidecar from what the agent makes of a pod of this name, with the files that a kubelet would keep.
fn sidecar(cluster: &Cluster, pilot: &str, name: &str, address: &str, ca: Option<&Ca>) -> Running {
    let files = cluster.folder.join(name);
    let keep = |file: &str, text: &str| {
        let path = files.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let token = cluster.kubectl(&["create", "token", name, "-n", "bank", "--audience", "outrigger-ca"]).unwrap();
    keep("token/token", &token);
    let root = ["get", "configmap", "outrigger-ca-root", "-n", "bank", "-o", "jsonpath={.data.root-cert\\.pem}"];
    keep("ca/root-cert.pem", &until("the pilot's root", || cluster.kubectl(&root)));
    let mut agent = cluster.run(program("outrigger"));
    agent.args(["agent", "bootstrap"]).env("OUTRIGGER_PILOT", pilot).env("OUTRIGGER_CLUSTER_DOMAIN", "cluster.local");
    agent.env("POD_NAME", name).env("POD_NAMESPACE", "bank").env("POD_IP", address);
    agent.env("SERVICE_ACCOUNT", name).env("OUTRIGGER_WORKLOAD", name);
    if let Some(ca) = ca {
        agent.env("OUTRIGGER_CA_ADDRESS", &ca.address).env("OUTRIGGER_TRUST_DOMAIN", "cluster.local");
        let mut token = Command::new(program("outrigger"));
        token.args(["token", "create", "-n", "bank", "--service-account", name]).arg("--state").arg(&ca.state);
        keep("external-ca/token", &output(&mut token).unwrap());
        keep("external-ca/root-cert.pem", &std::fs::read_to_string(ca.state.join("root-cert.pem")).unwrap());
    }
    let bootstrap = output(&mut agent).unwrap().replace("/var/run/secrets/outrigger", &files.display().to_string());
    keep("bootstrap.json", &bootstrap.replace("0.0.0.0", address));
    let mut sidecar = Command::new(program("sidecar"));
    sidecar.arg("-c").arg(files.join("bootstrap.json")).args(["--concurrency", "1"]);
    let running = Running::start(&mut sidecar, &files.join("log"));
    until(name, || curl(&[&format!("http://{address}:15021/healthz/ready")]));
    running
}

/// What a workload is answered by a Service: the status, and the text.
fn call(from: &str, service: &str) -> Result<(String, String), String> {
    let said = output(
        Command::new("curl")
            .args(["--silent", "--max-time", "5", "-w", "\n%{http_code}", "-H"])
            .args([&format!("host: {service}.bank"), &format!("http://{from}:15001/")]),
    )?;
    said.rsplit_once('\n').map(|(text, status)| (status.to_owned(), text.to_owned())).ok_or(said)
}

fn answered(from: &str, service: &str, status: &str, part: &str) {
    until(&format!("{from} calls {service}"), || match call(from, service) {
        Ok((got, text)) if got == status && text.contains(part) => Ok(()),
        other => Err(format!("not {status} {part}: {other:?}")),
    });
}

pub(crate) fn signs(cluster: &Cluster, pilot: &Running, secure: &str, webhook: &str) {
    let ca = Ca::start(&cluster.folder.join(""));
    let address = format!("ca.address={}", ca.address);
    cluster.outrigger(&["upgrade", "--set", "pilot.external=true", "--set", webhook, "--set", &address]).unwrap();
    let told = |part: &str| {
        until("what the pilot says", || if pilot.said().contains(part) { Ok(()) } else { Err(format!("no `{part}`")) });
    };
    told("ConfigMap istio-ca-root-cert in namespace outrigger-system is not there: nobody trusts");
    cluster.apply(&(objects() + ACCESS)).unwrap();
    let app = |name: &str, port: u16| {
        let mut app = Command::new(program("outrigger"));
        Running::start(
            app.args(["demo-app", name, "--listen", &format!("127.0.0.1:{port}")]),
            &cluster.folder.join(name).with_extension("log"),
        )
    };
    let _apps = [app("api", 13081), app("old", 13082)];
    let secure = secure.replace("127.0.0.1", "localhost");
    let old = sidecar(cluster, &secure, "old", OLD, None);
    let _web = sidecar(cluster, &secure, "web", WEB, Some(&ca));
    let _api = sidecar(cluster, &secure, "api", API, Some(&ca));
    answered(WEB, "old", "503", "");
    answered(OLD, "api", "503", "");
    let before = ca.signed("bank/web");

    let root = ca.state.join("root-cert.pem").display().to_string();
    let from = format!("--from-file=root-cert.pem={root}");
    cluster.kubectl(&["create", "configmap", "istio-ca-root-cert", "-n", "outrigger-system", &from]).unwrap();
    told("the roots of ConfigMap istio-ca-root-cert in namespace outrigger-system are trusted");
    answered(WEB, "api", "200", "URI=spiffe://cluster.local/ns/bank/sa/web");
    answered(WEB, "old", "200", "URI=spiffe://cluster.local/ns/bank/sa/web");
    answered(OLD, "api", "403", "RBAC: access denied");
    assert!(before > 0 && ca.signed("bank/old") == 0, "{before}: {}", ca.process.said());
    // Who trusts others asks for a new certificate.
    until("a renewal", || if ca.signed("bank/web") > before { Ok(()) } else { Err(ca.process.said()) });
    answered(WEB, "api", "200", "URI=spiffe://cluster.local/ns/bank/sa/web");

    // The CA's roots are gone from the cluster, which is no reason to stop calls that were good.
    cluster.kubectl(&["delete", "configmap", "istio-ca-root-cert", "-n", "outrigger-system"]).unwrap();
    told("is not there: the roots that it had stay trusted");
    answered(WEB, "old", "200", "");
    cluster.outrigger(&["upgrade", "--set", "pilot.external=true", "--set", webhook]).unwrap();
    told("no roots but the pilot's own are trusted any longer");
    drop(old);
    let _old = sidecar(cluster, &secure, "old", OLD, None);
    answered(WEB, "old", "503", "");
    cluster.kubectl(&["delete", "namespace", "bank", "--wait=false"]).unwrap();
}

fn objects() -> String {
    let mut text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: bank}\n".to_owned();
    for (name, address, port) in [("web", WEB, 13080), ("api", API, 13081), ("old", OLD, 13082)] {
        text += &format!(
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: bank}}\n\
             ---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: bank}}\n\
             spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n\
             ---\napiVersion: mesh.outrigger.dev/v1alpha1\nkind: Workload\n\
             metadata: {{name: {name}, namespace: bank, labels: {{app: {name}}}}}\n\
             spec: {{address: {address}, serviceAccount: {name}, ports: [{{name: http, port: 8080, appPort: {port}}}]}}\n"
        );
    }
    text
}
