//! A watched rollout under real calls, by manifests and in a cluster: a canary that does well is promoted, one that does not answer is
//! rolled back.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tests::cluster::Cluster;
use tests::local::LocalMesh;
use tests::process::{Running, output, program, until};

/// Where `web` calls from.
const WEB: &str = "http://127.0.20.11:15001";
const ROUGH: &str = "apiVersion: split.smi-spec.io/v1alpha4  # not in order\nkind: TrafficSplit\nmetadata: {name: reviews, namespace: shop}\n\
    spec:\n    backends:\n    -   {service: reviews-v1, weight:  95 }   # old\n    -   service: reviews-v2\n        weight: 5\n    service: reviews\n";

/// A mesh with a split, and calls that go on.
struct Called {
    mesh: LocalMesh,
    calls: Running,
}

impl Called {
    fn start() -> Self {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let mesh = LocalMesh::start(&examples, "canary-split");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{stderr}%{http_code}\\n"]);
        curl.args(["--rate", "60/s", "--header", "host: reviews:9080", &format!("{WEB}/?[1-100000]")]);
        let calls = Running::start(&mut curl, &mesh.file("calls"));
        Self { mesh, calls }
    }

    fn canary(&self, what: &str) -> Command {
        // What waits for what does not come must not wait for ever.
        let mut command = Command::new("timeout");
        command.arg("90").arg(program("outrigger")).args(["canary", what, "reviews", "-n", "shop", "-f"]);
        command.arg(&self.mesh.manifests);
        command
    }

    fn rollout(&self) -> Output {
        let mut start = self.canary("start");
        start.args(["--canary", "reviews-v2", "--pilot", self.mesh.monitoring(), "--step", "50", "--interval", "5s"]);
        start.output().unwrap()
    }

    /// Who is stopped leaves everything as it is.
    fn interrupted(&self) {
        let mut start = Command::new(program("outrigger"));
        start.args(["canary", "start", "reviews", "-n", "shop", "--canary", "reviews-v2", "--interval", "1h"]);
        start.args(["--pilot", self.mesh.monitoring(), "-f"]).arg(&self.mesh.manifests);
        let running = Running::start(&mut start, &self.mesh.file("interrupted"));
        let says = |what: &str| {
            until(what, || match running.said() {
                said if said.contains(what) => Ok(()),
                said => Err(said),
            });
        };
        says("reviews-v2 10 %: begins");
        output(Command::new("kill").args(["-INT", &running.id().to_string()])).unwrap();
        says("stopped: the weights stay as they are, reviews-v1 90, reviews-v2 10");
        assert!(self.weights().contains("reviews-v2, weight: 10}"), "{}", self.weights());
    }

    fn weights(&self) -> String {
        let text = std::fs::read_to_string(self.mesh.manifests.join("split.yaml")).unwrap();
        text.split("backends:").nth(1).unwrap().to_owned()
    }

    /// What of the split's second backend is told under a name.
    fn figure(&self, name: &str) -> Result<serde_json::Value, String> {
        let mut status = self.canary("status");
        let told = output(status.args(["-o", "json", "--pilot", self.mesh.monitoring()]))?;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        Ok(told[1]["figures"][name].clone())
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_good_canary_is_promoted() {
    let called = Called::start();
    let original = std::fs::read_to_string(called.mesh.manifests.join("split.yaml")).unwrap();
    called.mesh.change("split.yaml", &original, ROUGH);
    let ended = called.rollout();
    assert!(ended.status.success() && said(&ended).contains("reviews-v2 is promoted"), "{}", said(&ended));
    let wanted = ROUGH.replace(" 95 ", " 0 ").replace("weight: 5\n", "weight: 100\n");
    assert_eq!(std::fs::read_to_string(called.mesh.manifests.join("split.yaml")).unwrap(), wanted);
    let edges = || {
        let mut edges = Command::new(program("outrigger"));
        let told = output(edges.args(["traffic", "edges", "-n", "shop", "--pilot", called.mesh.monitoring()]))?;
        let edge = told.lines().find(|line| line.contains("shop/web") && line.contains("shop/reviews-v2"));
        edge.map(str::to_owned).ok_or(told)
    };
    let edge = until("the edge", edges);
    assert!(edge.contains("client") && edge.contains("100.00 %"), "{edge}");
    // The calls of all that while, through every change.
    let calls = called.calls.said();
    let failed: Vec<&str> = calls.lines().filter(|code| *code != "200").collect();
    assert!(failed.is_empty() && calls.lines().count() > 100, "{} of {}: {failed:?}", failed.len(), calls.len());
    output(called.canary("abort").args(["--canary", "reviews-v2"])).unwrap();
    assert!(called.weights().contains("100 ") && called.weights().contains("weight: 0"), "{}", called.weights());
}

#[test]
fn a_bad_canary_is_rolled_back() {
    let mut called = Called::start();
    until("calls", || match called.figure("successCount")?.as_u64() {
        Some(count) if count > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    called.interrupted();
    called.mesh.apps.get_mut("reviews-v2").unwrap().kill();
    let ended = called.rollout();
    let said = said(&ended);
    assert!(ended.status.code() == Some(1) && said.contains("reviews-v2 is rolled back from "), "{said}");
    assert!(said.contains("wanted 99 % or more"), "{said}");
    let weights = called.weights();
    assert!(weights.contains("reviews-v1, weight: 100}") && weights.contains("reviews-v2, weight: 0}"), "{weights}");
    // Who calls now gets answers: the good one's.
    let answer =
        || output(Command::new("curl").args(["-s", "-f", "-H", "host: reviews:9080", &format!("{WEB}/?[1-200]")]));
    until("good answers", answer);
}

/// In a cluster, by its metrics API; `api-v2` has all calls when this begins, and none when it ends.
pub(crate) fn in_cluster(cluster: &Cluster) {
    let url = format!("http://{}/", crate::kubernetes_node::api(cluster));
    let mut load = cluster.run(cluster.tool("kubectl"));
    load.args(crate::kubernetes_node::CLIENT).args(["demo-app", "web", "--call", &url, "--times", "0"]);
    let mut load = load.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let rollout = |canary: &str, interval: &str| {
        let mut start = cluster.run("timeout");
        start.arg("120").arg(program("outrigger")).args(["canary", "start", "api", "-n", "shop", "--canary", canary]);
        // How fast a loaded machine is says nothing here.
        start.args(["--step", "50", "--interval", interval, "--max-p99", "1m"]).output().unwrap()
    };
    let weights = || {
        let path = "jsonpath={.spec.backends[*].service} {.spec.backends[*].weight}";
        cluster.kubectl(&["get", "trafficsplit", "api", "-n", "shop", "-o", path]).unwrap()
    };
    let good = rollout("api-v1", "5s");
    assert!(good.status.success() && said(&good).contains("api-v1 is promoted"), "{}", said(&good));
    assert_eq!(weights(), "api-v1 api-v2 100 0");
    let top = cluster.outrigger(&["traffic", "top", "-n", "shop"]).unwrap();
    let busy = |kind: &str, name: &str| {
        top.lines().any(|line| [kind, name, "100.00 %"].iter().all(|part| line.contains(part)))
    };
    assert!(busy("Deployment", "api-v1") && busy("Service", "api"), "{top}");
    let edges = cluster.outrigger(&["traffic", "edges", "-n", "shop"]).unwrap();
    let edge = |line: &str| line.contains("Deployment shop/web") && line.contains("Deployment shop/api-v1");
    assert!(edges.lines().any(edge), "{edges}");
    cluster.kubectl(&["scale", "-n", "shop", "deployment/api-v2", "--replicas=0"]).unwrap();
    cluster.kubectl(&["wait", "-n", "shop", "--for=delete", "pod", "-l", "run=api-v2", "--timeout=60s"]).unwrap();
    // Figures are those of half a minute: what was well before is to have left them.
    let bad = rollout("api-v2", "35s");
    assert!(bad.status.code() == Some(1) && said(&bad).contains("api-v2 is rolled back from "), "{}", said(&bad));
    assert_eq!(weights(), "api-v1 api-v2 100 0");
    drop(load.stdin.take());
    load.wait().unwrap();
}
