//! Our kinds and SMI's as a real API server knows them: explained, checked by their schemas, and the rest left to the webhook.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use api::{Severity, manifest};
use tests::cluster::Cluster;

pub(crate) fn known(cluster: &Cluster) {
    structural(cluster);
    explained(cluster);
    refused(cluster);
    taken(cluster);
}

/// The server finds nothing to complain of in the definitions, and each is well below what kubectl's annotation holds.
fn structural(cluster: &Cluster) {
    let listed = cluster.kubectl(&["get", "crd", "-o", "json"]).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let crds = listed["items"].as_array().unwrap();
    assert!(crds.len() >= 8, "{}", crds.len());
    for crd in crds {
        let conditions = crd["status"]["conditions"].as_array().unwrap();
        let holding: Vec<&str> = conditions
            .iter()
            .filter(|condition| condition["status"] == "True")
            .map(|condition| condition["type"].as_str().unwrap())
            .collect();
        assert_eq!(holding, ["NamesAccepted", "Established"], "{}", crd["metadata"]["name"]);
        assert!(crd["spec"].to_string().len() < 64 << 10, "{}", crd["metadata"]["name"]);
    }
}

fn explained(cluster: &Cluster) {
    let fields = [
        ("mesh.outrigger.dev/v1alpha1", "trafficpolicies.spec.retry.attempts", "each on a host not yet tried"),
        ("mesh.outrigger.dev/v1alpha1", "trafficpolicies.spec.retry.on", "connect-failure"),
        ("mesh.outrigger.dev/v1alpha1", "trafficpolicies.spec.loadBalancer.policy", "`maglev`"),
        ("mesh.outrigger.dev/v1alpha1", "workloads.status.conditions.reason", "One word"),
        ("split.smi-spec.io/v1alpha1", "trafficsplits.spec.backends.weight", "quantity"),
        ("access.smi-spec.io/v1alpha1", "traffictargets.specs", "What may be called"),
        ("specs.smi-spec.io/v1alpha2", "httproutegroups.matches.pathRegex", "regular expression"),
        ("specs.smi-spec.io/v1alpha4", "httproutegroups.spec.matches.pathRegex", "regular expression"),
    ];
    for (version, field, wanted) in fields {
        let said = cluster.kubectl(&["explain", field, "--api-version", version]).unwrap();
        assert!(said.contains(wanted), "{field}: {said}");
    }
}

/// A wrong type is the schema's business; what only people can get wrong is told in the words of `outrigger analyze`.
fn refused(cluster: &Cluster) {
    let policies = [
        ("retry: {attempts: many}", "spec.retry.attempts in body must be of type integer"),
        ("circuitBreaker: 7", "spec.circuitBreaker in body must be of type object"),
        ("retry: {\"on\": [5xx, 5yy]}", "unknown value `5yy` of `spec.retry.on[1]`"),
        ("retry: {on: [5yy]}", "unknown value `5yy` of `spec.retry.on[0]`"),
        ("timeouts: {}", "unknown field `spec.timeouts` (did you mean `timeout`?)"),
        ("timeout: {request: 2}", "spec.timeout.request in body must be of type string"),
        ("timeout: {request: 2x}", "bad duration `2x`: unknown unit `x`"),
        ("loadBalancer: {policy: leastrequest}", "unknown value `leastrequest` of `spec.loadBalancer.policy`"),
    ];
    for (field, wanted) in policies {
        let object = format!(
            "apiVersion: mesh.outrigger.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: p, namespace: shop}}\n\
             spec: {{targetRef: {{name: web}}, {field}}}\n"
        );
        let said = dry(cluster, &object).unwrap_err();
        assert!(said.contains(wanted), "{field}: {said}");
    }
}

/// Of all examples and golden cases, the server takes what the reader takes, as it is written.
fn taken(cluster: &Cluster) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for namespace in ["callers", "data", "other"] {
        cluster.kubectl(&["create", "namespace", namespace]).unwrap();
    }
    let mut files = Vec::new();
    for folder in ["examples", "smi-adapter/testdata", "pilot/testdata"] {
        manifests(&root.join(folder), &mut files);
    }
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
    let documents: Vec<String> =
        texts.flat_map(|text| text.split("\n---").map(str::to_owned).collect::<Vec<_>>()).collect();
    let ours = documents.iter().filter(|text| {
        text.lines().any(|line| {
            line.starts_with("apiVersion: ") && (line.contains("outrigger.dev/") || line.contains("smi-spec.io/"))
        })
    });
    let mut count = 0;
    for document in ours {
        let problems = manifest::read(&"".into(), &document.as_str().into()).problems;
        let good = !problems.iter().any(|problem| problem.severity() == Severity::Error);
        let said = dry(cluster, document);
        assert_eq!(said.is_ok(), good, "{document}\n{said:?}");
        count += 1;
    }
    assert!(count > 30, "{count}");
}

fn dry(cluster: &Cluster, object: &str) -> Result<String, String> {
    cluster.feed(&["apply", "--dry-run=server", "-f", "-"], object)
}

fn manifests(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            manifests(&path, found);
        } else if name.ends_with(".yaml") && name != "out.yaml" {
            found.push(path);
        }
    }
}
