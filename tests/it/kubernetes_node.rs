//! The mesh on a real node: pods of our own images, and what is on the wire between them.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

use tests::cluster::{Cluster, Tier};
use tests::process::{PATIENCE, Running, output, until};

const CALLS: usize = 200;

/// Applications that say who they are and who called; not as the image's own user, whose connections are the
/// sidecar's and not captured.
fn workloads() -> String {
    let mut text =
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {outrigger.dev/inject: enabled}}\n".to_owned();
    // First, so that pods know their addresses.
    for (name, selector) in [("api", "app: api"), ("api-v1", "run: api-v1"), ("api-v2", "run: api-v2")] {
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{selector: {{{selector}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n"
        );
    }
    for (name, app, image, command, ready) in [
        ("web", "web", "outrigger:TAG", "[/usr/local/bin/outrigger, demo-app, web, --listen, \"0.0.0.0:8080\"]", ""),
        (
            "api-v1",
            "api",
            "outrigger:TAG",
            "[/usr/local/bin/outrigger, demo-app, api-v1, --listen, \"0.0.0.0:8080\"]",
            READY,
        ),
        (
            "api-v2",
            "api",
            "outrigger:TAG",
            "[/usr/local/bin/outrigger, demo-app, api-v2, --listen, \"0.0.0.0:8080\"]",
            READY,
        ),
    ] {
        text += &format!(
            "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {app}, namespace: shop}}\n\
             ---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  selector: {{matchLabels: {{run: {name}}}}}\n  strategy: {{rollingUpdate: {{maxUnavailable: 0}}}}\n  template:\n    \
             metadata: {{labels: {{run: {name}, app: {app}}}}}\n    spec:\n      serviceAccountName: {app}\n      terminationGracePeriodSeconds: 5\n      \
             containers: [{{name: app, image: \"{}\", imagePullPolicy: Never, securityContext: {{runAsUser: 1000}}, command: {command}{ready}}}]\n",
            image.replace("TAG", env!("CARGO_PKG_VERSION"))
        );
    }
    text
}

const READY: &str =
    ", ports: [{name: http, containerPort: 8080}], readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}";

fn split(first: u32, second: u32) -> String {
    format!(
        "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {{name: api, namespace: shop}}\n\
         spec: {{service: api, backends: [{{service: api-v1, weight: {first}}}, {{service: api-v2, weight: {second}}}]}}\n"
    )
}

/// The address of Service `api`.
pub(crate) fn api(cluster: &Cluster) -> String {
    cluster.kubectl(&["get", "service", "api", "-n", "shop", "-o", "jsonpath={.spec.clusterIP}"]).unwrap()
}

/// How `web` calls.
pub(crate) const CLIENT: [&str; 9] =
    ["exec", "-i", "-n", "shop", "deployment/web", "-c", "app", "--", "/usr/local/bin/outrigger"];

/// What `web` is answered, call by call.
fn calls(cluster: &Cluster, path: &str, times: usize) -> Result<Vec<String>, String> {
    let (url, times) = (format!("http://{}{path}", api(cluster)), times.to_string());
    let said = cluster.kubectl(&[&CLIENT[..], &["demo-app", "web", "--call", &url, "--times", &times]].concat());
    let happened = || cluster.kubectl(&["get", "events", "-n", "shop", "--sort-by=.lastTimestamp"]).unwrap_or_default();
    let said = said.map_err(|error| format!("{error}\n{}", happened()))?;
    match said.lines().find(|line| line.starts_with("failed")) {
        Some(failed) => Err(failed.to_owned()),
        None => Ok(said.lines().map(str::to_owned).collect()),
    }
}

#[test]
fn the_mesh_on_a_node() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: a node's namespaces are made as root");
        return;
    }
    let cluster = Cluster::up(Tier::Node);
    cluster.load_images().unwrap();
    let never = ["--set", "image.pullPolicy=Never", "--set", "initImage.pullPolicy=Never"];
    cluster.outrigger(&[&["install", "--wait"][..], &never].concat()).unwrap();
    cluster.apply(&(workloads() + "---\n" + &split(75, 25))).unwrap();
    for name in ["web", "api-v1", "api-v2"] {
        let deployment = format!("deployment/{name}");
        cluster.kubectl(&["rollout", "status", "-n", "shop", &deployment, "--timeout=60s"]).unwrap();
    }
    until("the first answer", || calls(&cluster, "/", 1));
    shares(&cluster);
    crate::kubernetes_pages::shown(&cluster, "shop", "web");
    on_the_wire(&cluster);
    access(&cluster);
    under_load(&cluster);
    crate::canary::in_cluster(&cluster);
    job(&cluster);
}

fn shares(cluster: &Cluster) {
    let answers = until("endpoints of both versions", || calls(cluster, "/", CALLS));
    let second = answers.iter().filter(|text| text.contains("\"app\":\"api-v2\"")).count() as f64;
    let deviation = (CALLS as f64 * 0.25 * 0.75).sqrt();
    assert!((second - CALLS as f64 * 0.25).abs() < 4.0 * deviation, "{second} of {CALLS}");
    assert!(
        answers.iter().all(|text| text.contains("URI=spiffe://cluster.local/ns/shop/sa/web")),
        "{:?}",
        answers.first()
    );
}

/// Between two pods nothing is in the clear; before they are in the mesh it is.
fn on_the_wire(cluster: &Cluster) {
    let address = |run: &str| {
        let select = format!("run={run}");
        cluster
            .kubectl(&["get", "pods", "-n", "shop", "-l", &select, "-o", "jsonpath={.items[0].status.podIP}"])
            .unwrap()
    };
    let file = cluster.folder.join("wire.pcap");
    let filter = format!("host {} and tcp", address("web"));
    let mut dump = cluster.enter();
    dump.args(["tcpdump", "-i", "any", "-U", "--immediate-mode", "-s", "0", "-Z", "root", "-w"])
        .arg(&file)
        .arg(&filter);
    let running = Running::start(&mut dump, &cluster.folder.join("tcpdump.log"));
    until("tcpdump", || if running.said().contains("listening on") { Ok(()) } else { Err(running.said()) });
    assert_eq!(calls(cluster, "/marker-in-secret", CALLS).unwrap().len(), CALLS);
    let bytes = until("packets", || {
        let bytes = std::fs::read(&file).map_err(|error| error.to_string())?;
        if bytes.len() > 100_000 { Ok(bytes) } else { Err(format!("{} bytes", bytes.len())) }
    });
    let holds = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    assert!(!holds(b"marker-in-secret"), "what was said is on the wire in the clear");
    assert!(holds(&[0x17, 0x03, 0x03]), "there is no TLS on the wire");
}

fn access(cluster: &Cluster) {
    let target = "apiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\nmetadata: {name: api, namespace: shop}\n\
        spec: {destination: {kind: ServiceAccount, name: api}, sources: [{kind: ServiceAccount, name: nobody}], rules: [{kind: HTTPRouteGroup, name: all}]}\n\
        ---\napiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {name: all, namespace: shop}\nspec: {matches: [{name: all, pathRegex: \".*\", methods: [\"*\"]}]}\n";
    cluster.apply(target).unwrap();
    until("denied", || match calls(cluster, "/", 1) {
        Err(said) if said.contains("403") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    cluster.apply(&target.replace("name: nobody", "name: web")).unwrap();
    until("allowed", || calls(cluster, "/", 1));
    cluster.kubectl(&["delete", "traffictarget", "api", "-n", "shop"]).unwrap();
}

/// A rollout, a pilot deleted, the root rotated, weights changed: no call fails.
fn under_load(cluster: &Cluster) {
    let url = format!("http://{}/", api(cluster));
    let mut load = cluster.run(cluster.tool("kubectl"));
    load.args(CLIENT).args(["demo-app", "web", "--call", &url, "--times", "0"]);
    let mut load = load.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    cluster.kubectl(&["rollout", "restart", "-n", "shop", "deployment/api-v1"]).unwrap();
    rolled(cluster, "shop", "deployment/api-v1");
    restart_pilot(cluster);
    cluster.kubectl(&["delete", "pods", "-n", "outrigger-system", "--all", "--wait=false"]).unwrap();
    rolled(cluster, "outrigger-system", "deployment/outrigger-pilot");
    // Long enough for proxies to come back from the pilot that goes.
    cluster.outrigger(&["cert", "rotate", "--root", "--overlap", "10s"]).unwrap();
    // The only pilot was taken away: until it is back, objects are refused.
    until("a pilot that lets the split in", || cluster.apply(&split(0, 100)));
    until("the new weights", || {
        match calls(cluster, "/", CALLS)?.iter().filter(|text| text.contains("api-v1")).count() {
            0 => Ok(()),
            some => Err(format!("{some} calls went to v1")),
        }
    });
    drop(load.stdin.take());
    let said = String::from_utf8(load.wait_with_output().unwrap().stdout).unwrap();
    assert!(said.contains(" calls, 0 failed"), "{said}");
}

fn rolled(cluster: &Cluster, namespace: &str, name: &str) {
    let timeout = format!("--timeout={}s", 3 * PATIENCE.as_secs());
    cluster.kubectl(&["rollout", "status", "-n", namespace, name, &timeout]).unwrap();
}

/// While a pilot goes and another comes, the API server gets an answer from one: no object is refused for the want of it.
fn restart_pilot(cluster: &Cluster) {
    let pods = || cluster.kubectl(&["get", "pods", "-n", "outrigger-system", "-o", "name"]).unwrap();
    let (before, mut weight) = (pods(), 25);
    cluster.kubectl(&["rollout", "restart", "-n", "outrigger-system", "deployment/outrigger-pilot"]).unwrap();
    let mut ask = || {
        weight += 1;
        cluster.apply(&split(75, weight)).unwrap();
    };
    std::thread::scope(|scope| {
        let rollout = scope.spawn(|| rolled(cluster, "outrigger-system", "deployment/outrigger-pilot"));
        while !rollout.is_finished() {
            ask();
        }
        rollout.join().unwrap();
    });
    until("the pilot that was there to be gone", || {
        ask();
        let now = pods();
        if before.lines().any(|pod| now.contains(pod)) { Err(now) } else { Ok(()) }
    });
}

/// A Job ends although it has a sidecar.
fn job(cluster: &Cluster) {
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: once, namespace: shop}\nspec:\n  backoffLimit: 0\n  template:\n    spec:\n      \
        restartPolicy: Never\n      containers: [{name: app, image: \"outrigger:TAG\", imagePullPolicy: Never, securityContext: {runAsUser: 1000}, command: [/usr/local/bin/outrigger, demo-app, once, --call, \"URL\"]}]\n";
    let url = format!("http://{}/", api(cluster));
    cluster.apply(&job.replace("TAG", env!("CARGO_PKG_VERSION")).replace("URL", &url)).unwrap();
    cluster.kubectl(&["wait", "-n", "shop", "--for=condition=complete", "job/once", "--timeout=60s"]).unwrap();
}

/// The tools within the node.
#[test]
fn tools() {
    output(Command::new("nsenter").arg("--version")).unwrap();
}
