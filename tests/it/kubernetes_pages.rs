//! What pilots and sidecars in pods say of themselves, by the commands that ask them through the API server.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde_json::Value;
use tests::cluster::Cluster;
use tests::local::curl;
use tests::process::{Running, program, until};

pub(crate) fn shown(cluster: &Cluster, namespace: &str, run: &str) {
    let select = format!("run={run}");
    let name = ["get", "pods", "-n", namespace, "-l", &select, "-o", "jsonpath={.items[0].metadata.name}"];
    let pod = cluster.kubectl(&name).unwrap();
    let status: Value = serde_json::from_str(&cluster.outrigger(&["proxy", "status", "-o", "json"]).unwrap()).unwrap();
    let proxies = status["proxies"].as_array().unwrap();
    let own = proxies.iter().find(|proxy| proxy["proxy"] == format!("{pod}.{namespace}"));
    assert!(own.is_some_and(|proxy| proxy["pilot"].as_str().unwrap().starts_with("outrigger-pilot-")), "{status}");
    let config = cluster.outrigger(&["proxy", "config", &pod, "-n", namespace]).unwrap();
    assert!(config.contains("virtualOutbound") && !config.contains("PRIVATE KEY"), "{config}");
    assert!(cluster.outrigger(&["proxy", "stats", &pod, "-n", namespace]).unwrap().contains("istio_requests_total"));
    dashboard(cluster);
    report(cluster, namespace, &pod);
}

fn dashboard(cluster: &Cluster) {
    let mut command = cluster.run(program("outrigger"));
    let running = Running::start(command.arg("dashboard"), &cluster.folder.join("dashboard.log"));
    let url = until("the dashboard", || {
        let said = running.said();
        said.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned).ok_or(said)
    });
    assert!(curl(&[&url]).unwrap().contains("<title>Outrigger</title>"));
    let objects: Value = serde_json::from_str(&curl(&[&format!("{url}debug/configz")]).unwrap()).unwrap();
    assert!(!objects["objects"].as_array().unwrap().is_empty());
}

fn report(cluster: &Cluster, namespace: &str, pod: &str) {
    let folder = cluster.folder.join("report");
    let out = folder.to_str().unwrap();
    cluster.outrigger(&["bug-report", "--out", out, "-n", namespace, pod]).unwrap();
    let again = cluster.outrigger(&["bug-report", "--out", out]).unwrap_err();
    assert!(again.contains("--out"), "{again}");
    assert_eq!(std::fs::read_to_string(folder.join("missing.txt")).unwrap(), "");
    for part in ["told.json", "stats.txt", "log.txt", "pod.json"] {
        assert!(folder.join("proxies").join(pod).join(part).exists(), "{part}");
    }
    for file in files(&folder) {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("PRIVATE KEY") && !text.contains("\"token\":"), "a secret is in {}", file.display());
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
