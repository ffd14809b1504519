//! The mesh on a real API server, with a pilot outside the cluster that has no more rights than its account.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::process::Command;

use tests::cluster::{Cluster, Tier};
use tests::local::curl;
use tests::process::{Running, output, program, until};

struct Mesh {
    cluster: Cluster,
    pilot: Running,
    secure: String,
    monitoring: String,
}

pub(crate) fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Installs, and starts a pilot as service account `outrigger-pilot`.
fn start() -> Mesh {
    let cluster = Cluster::up(Tier::Api);
    let webhook = free();
    let set = format!("webhook.url=https://{webhook}");
    cluster.outrigger(&["install", "--set", "pilot.external=true", "--set", &set]).unwrap();
    let kubeconfig = account(&cluster);
    let (secure, monitoring) = (free(), free());
    let mut pilot = cluster.run(program("pilot"));
    pilot.arg("--kubeconfig").arg(&kubeconfig).args(["--webhook", &webhook, "--monitoring", &monitoring]);
    pilot.args(["--xds", &free(), "--secure-xds", &secure, "--metrics-api", &free()]);
    let pilot = Running::start(&mut pilot, &cluster.folder.join("pilot.log"));
    until("the pilot", || curl(&[&format!("http://{monitoring}/ready")]));
    cluster.kubectl(&["create", "namespace", "shop"]).unwrap();
    cluster.kubectl(&["label", "namespace", "shop", "outrigger.dev/inject=enabled"]).unwrap();
    Mesh { cluster, pilot, secure, monitoring }
}

/// A kubeconfig with the account's rights and no others.
fn account(cluster: &Cluster) -> std::path::PathBuf {
    let token = cluster.kubectl(&["create", "token", "outrigger-pilot", "-n", "outrigger-system"]).unwrap();
    let shown = cluster.kubectl(&["config", "view", "--raw", "--minify", "-o", "json"]).unwrap();
    let field =
        |name: &str| shown.split(&format!("\"{name}\": \"")).nth(1).unwrap().split('"').next().unwrap().to_owned();
    let file = cluster.folder.join("pilot.kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: \"{}\", certificate-authority-data: {}}}}}]\n\
         users: [{{name: u, user: {{token: {}}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
        field("server"),
        field("certificate-authority-data"),
        token.trim()
    );
    std::fs::write(&file, text).unwrap();
    file
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME, namespace: shop, annotations: {ANNOTATION}}\n\
    spec: {containers: [{name: app, image: \"app:1\", ports: [{name: http, containerPort: 8080}], readinessProbe: {httpGet: {path: /ready, port: http}}}]}\n";

#[test]
fn the_mesh_on_an_api_server() {
    let mesh = start();
    injected(&mesh.cluster);
    left_out(&mesh.cluster);
    told(&mesh);
    crate::kubernetes_kinds::known(&mesh.cluster);
    versions(&mesh.cluster);
    rendered(&mesh.cluster);
    charts(&mesh.cluster);
    crate::kubernetes_kept::unread(&mesh.cluster, &webhook_url(&mesh.cluster));
    crate::kubernetes_kept::put_back(&mesh.cluster);
    crate::external_ca::signs(&mesh.cluster, &mesh.pilot, &mesh.secure, &webhook_url(&mesh.cluster));
    migrated(&mesh.cluster);
    crate::programs::without_the_injector(&mesh.cluster);
    let lines = until("all is as it should be", || mesh.cluster.outrigger(&["check"]));
    assert!(!lines.contains("not ok"), "{lines}");
    let log = mesh.pilot.said();
    assert!(!log.contains("forbidden"), "the pilot lacks a right:\n{log}");
}

fn injected(cluster: &Cluster) {
    cluster.apply(&POD.replace("NAME", "web").replace("ANNOTATION", "")).unwrap();
    let names = cluster.kubectl(&["get", "pod", "web", "-n", "shop", "-o", "jsonpath={.spec.initContainers[*].name}"]);
    assert_eq!(names.unwrap(), "outrigger-init outrigger-sidecar");
    let probe = "jsonpath={.spec.containers[0].readinessProbe.httpGet.port}";
    assert_eq!(cluster.kubectl(&["get", "pod", "web", "-n", "shop", "-o", probe]).unwrap(), "15020");
    let bad = POD.replace("NAME", "bad").replace("ANNOTATION", "outrigger.dev/proxy-cpu: lots");
    let said = cluster.apply(&bad).unwrap_err();
    assert!(said.contains("outrigger.dev/proxy-cpu") && said.contains("lots"), "{said}");
    let system = POD.replace("NAME", "web").replace("namespace: shop", "namespace: kube-system");
    cluster.apply(&system.replace("ANNOTATION", "")).unwrap();
    let names = cluster.kubectl(&["get", "pod", "web", "-n", "kube-system", "-o", "jsonpath={.spec.initContainers}"]);
    assert_eq!(names.unwrap(), "");
}

/// A pod that was there before its namespace's label is told of, with what to do.
fn left_out(cluster: &Cluster) {
    cluster.kubectl(&["create", "namespace", "late"]).unwrap();
    let pod = POD.replace("NAME", "early").replace("ANNOTATION", "").replace("namespace: shop", "namespace: late");
    cluster.apply(&pod).unwrap();
    cluster.kubectl(&["label", "namespace", "late", "outrigger.dev/inject=enabled"]).unwrap();
    let said = cluster.shows(&["describe", "pod", "early", "-n", "late"], "SidecarMissing");
    assert!(said.contains("delete it"), "{said}");
    let lines = cluster.outrigger(&["check"]).unwrap_err();
    assert!(lines.contains("pod late/early"), "{lines}");
    cluster.kubectl(&["delete", "pod", "early", "-n", "late"]).unwrap();
}

/// Where the installation asks for it, other meshes' labels and annotations bring pods in.
fn migrated(cluster: &Cluster) {
    let url = webhook_url(cluster);
    let others = "injector.migrateFrom={istio,linkerd,osm}";
    cluster.outrigger(&["upgrade", "--set", "pilot.external=true", "--set", &url, "--set", others]).unwrap();
    for (name, metadata) in [
        ("istio", "labels: {istio-injection: enabled}"),
        ("revision", "labels: {istio.io/rev: stable}"),
        ("linkerd", "annotations: {linkerd.io/inject: enabled}"),
        (
            "osm",
            "labels: {openservicemesh.io/monitored-by: osm}, annotations: {openservicemesh.io/sidecar-injection: enabled}",
        ),
    ] {
        cluster
            .apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: from-{name}, {metadata}}}\n"))
            .unwrap();
        let namespace = format!("namespace: from-{name}");
        let pod = POD.replace("NAME", "web").replace("ANNOTATION", "").replace("namespace: shop", &namespace);
        let names = "jsonpath={.spec.initContainers[*].name}";
        until("a sidecar", || {
            let said = cluster.feed(&["create", "--dry-run=server", "-o", names, "-f", "-"], &pod)?;
            if said.contains("outrigger-sidecar") { Ok(()) } else { Err(format!("{name}: {said}")) }
        });
    }
}

/// What is wrong is told as an Event, an annotation, a condition, a page, and refused where it cannot be right.
fn told(mesh: &Mesh) {
    let cluster = &mesh.cluster;
    let service = |name: &str, port: u16| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{ports: [{{name: http, port: {port}}}]}}\n"
        )
    };
    let split = "---\napiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {name: web, namespace: shop}\n\
        spec: {service: web, backends: [{service: web-v1, weight: 90}, {service: web-v2, weight: 10}]}\n";
    cluster.apply(&(service("web", 80) + &service("web-v1", 80) + &service("web-v2", 81) + split)).unwrap();
    cluster.shows(&["describe", "trafficsplit", "web", "-n", "shop"], "PortMismatch");
    cluster.shows(&["get", "trafficsplit", "web", "-n", "shop", "-o", "yaml"], "outrigger.dev/problems");
    let page = curl(&[&format!("http://{}/debug/configz", mesh.monitoring)]).unwrap();
    assert!(page.contains("PortMismatch"));
    let policy = |timeout: &str| {
        format!(
            "apiVersion: mesh.outrigger.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: web, namespace: shop}}\n\
                 spec: {{targetRef: {{kind: Service, name: web}}, timeout: {{request: {timeout}}}}}\n"
        )
    };
    let said = cluster.apply(&policy("soon")).unwrap_err();
    assert!(said.contains("soon"), "{said}");
    cluster.apply(&policy("2s")).unwrap();
    let accepted = "jsonpath={.status.conditions[?(@.type==\"Accepted\")].status}";
    cluster.shows(&["get", "trafficpolicy", "web", "-n", "shop", "-o", accepted], "True");
}

/// Every version of SMI's kinds that is stored reads back as every version that is served.
fn versions(cluster: &Cluster) {
    let weights = |version: &str| {
        let kind = format!("trafficsplits.{version}.split.smi-spec.io");
        cluster.kubectl(&["get", &kind, "old", "-n", "shop", "-o", "jsonpath={.spec.backends[*].weight}"]).unwrap()
    };
    let splits = ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"];
    for stored in splits {
        let object = format!(
            "apiVersion: split.smi-spec.io/{stored}\nkind: TrafficSplit\nmetadata: {{name: old, namespace: shop}}\n\
             spec: {{service: web, backends: [{{service: web-v1, weight: 500}}, {{service: web-v2, weight: 1500}}]}}\n"
        );
        cluster.apply(&object).unwrap();
        for served in splits {
            assert_eq!(weights(served), "500 1500", "{stored} as {served}");
        }
        cluster.kubectl(&["delete", "trafficsplit", "old", "-n", "shop"]).unwrap();
    }
}

/// What `render` prints is what is there, and the API server takes it.
fn rendered(cluster: &Cluster) {
    let text = cluster.outrigger(&["render", "--set", &webhook_url(cluster)]).unwrap();
    let said =
        cluster.feed(&["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"], &text).unwrap();
    assert!(said.contains("deployment.apps/outrigger-pilot") && said.lines().count() > 20, "{said}");
}

/// The value with which the webhooks are called where they are called now.
fn webhook_url(cluster: &Cluster) -> String {
    let url = "jsonpath={.webhooks[0].clientConfig.url}";
    let url = cluster.kubectl(&["get", "mutatingwebhookconfiguration", "outrigger-injector", "-o", url]).unwrap();
    format!("webhook.url={}", url.trim_end_matches("/inject"))
}

/// Helm finds nothing wrong with the charts, and renders what `render` prints, whatever the values.
fn charts(cluster: &Cluster) {
    let charts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/charts");
    for chart in ["outrigger-crds", "outrigger"] {
        output(Command::new(cluster.tool("helm")).arg("lint").arg(charts.join(chart))).unwrap();
    }
    let helm = |chart: &str, set: &[&str]| {
        let template = ["template", "outrigger", "--namespace", "outrigger-system", "--kube-version", "1.34.4"];
        output(Command::new(cluster.tool("helm")).args(template).args(set).arg(charts.join(chart))).unwrap()
    };
    let objects = |text: &str| -> Vec<serde_json::Value> {
        let read: Vec<Option<serde_json::Value>> = serde_saphyr::from_multiple(text).unwrap();
        let mut objects: Vec<_> = read.into_iter().flatten().filter(|object| object["kind"] != "Namespace").collect();
        objects.sort_by_key(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
        objects
    };
    for set in [
        &[][..],
        &["--set", "injector.migrateFrom={istio,linkerd,osm}"],
        &["--set", "ca.address=cert-manager-istio-csr.cert-manager.svc:443", "--set", "ca.audience=mesh"],
        &["--set", "ca.rootsConfigMap=roots"],
        &["--set", "pilot.replicas=2", "--set", "pilot.maxReplicas=5", "--set", "tracing.zipkin=http://zipkin:9411"],
        &["--set", "mtls.mode=permissive", "--set", "trustDomain=example.org", "--set", "accessLog.format=none"],
    ] {
        let ours = objects(&cluster.outrigger(&[&["render"], set].concat()).unwrap());
        let helms = objects(&(helm("outrigger-crds", &[]) + "\n---\n" + &helm("outrigger", set)));
        assert_eq!(ours.len(), helms.len());
        for (ours, helms) in ours.iter().zip(&helms) {
            assert_eq!(ours, helms, "{}, with {set:?}", ours["metadata"]["name"]);
        }
    }
}
