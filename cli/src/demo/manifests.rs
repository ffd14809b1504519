//! The demo's mesh as manifests, and the split as it stands in its file.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use api::mesh_config::ZipkinUrl;

/// The file to edit.
pub(super) const SPLIT: &str = "split.yaml";

/// A workload: name, account, version, last part of its address, ports as name and number.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) account: &'static str,
    pub(super) version: &'static str,
    pub(super) host: u8,
    pub(super) port: (&'static str, u16),
}

impl Sample {
    /// Where its peers connect.
    pub(super) fn address(&self) -> String {
        format!("127.0.10.{}", self.host)
    }

    /// Where its process listens.
    pub(super) fn app(&self) -> String {
        format!("{}:{}", self.address(), self.port.1 + 10_000)
    }
}

/// All workloads.
pub(super) const SAMPLES: [Sample; 6] = [
    Sample { name: "web", account: "web", version: "v1", host: 11, port: ("http", 8080) },
    Sample { name: "reviews-v1", account: "reviews", version: "v1", host: 12, port: ("http", 9080) },
    Sample { name: "reviews-v2", account: "reviews", version: "v2", host: 13, port: ("http", 9080) },
    Sample { name: "ratings", account: "ratings", version: "v1", host: 14, port: ("http", 9080) },
    Sample { name: "cart", account: "cart", version: "v1", host: 15, port: ("grpc", 9090) },
    Sample { name: "db", account: "db", version: "v1", host: 16, port: ("tcp", 5432) },
];

/// Writes the manifests that are not there yet; only where traces go is written anew.
pub(super) fn write(folder: &Path, zipkin: &ZipkinUrl) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("folder {}", folder.display()))?;
    let mesh = format!(
        "apiVersion: mesh.outrigger.dev/v1alpha1\nkind: MeshConfig\nmetadata: {{name: default}}\nspec:\n  accessLog: {{format: none}}\n  tracing: {{zipkin: \"{zipkin}\", sampling: 100}}\n"
    );
    replace(folder, "mesh.yaml", &mesh)?;
    let files = [
        ("workloads.yaml", workloads()),
        ("services.yaml", services()),
        ("access.yaml", ACCESS.to_owned()),
        (SPLIT, split(90, 10)),
    ];
    for (name, text) in files {
        if !folder.join(name).exists() {
            replace(folder, name, &text)?;
        }
    }
    Ok(())
}

/// The split, with other weights.
pub(super) fn split(v1: u32, v2: u32) -> String {
    format!(
        "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {{name: reviews, namespace: shop}}\nspec:\n  service: reviews\n  backends:\n  - {{service: reviews-v1, weight: {v1}}}\n  - {{service: reviews-v2, weight: {v2}}}\n"
    )
}

/// Puts a file in place as a whole.
pub(super) fn replace(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let draft = folder.join(format!(".{name}.new"));
    std::fs::write(&draft, text)
        .and_then(|()| std::fs::rename(&draft, folder.join(name)))
        .with_context(|| format!("file {}", folder.join(name).display()))
}

/// The weights that the split's file gives v1 and v2, as percentages.
pub(super) fn weights(folder: &Path) -> [f64; 2] {
    let text = std::fs::read_to_string(folder.join(SPLIT)).unwrap_or_default();
    let (objects, _) = api::manifest::objects(SPLIT, &text);
    let split = objects.traffic_splits.values().next();
    let weight = |name: &str| {
        let backends = split.iter().flat_map(|split| &split.spec.backends);
        backends.filter(|backend| backend.service == name).map(|backend| backend.weight).sum::<u64>() as f64
    };
    let (v1, v2) = (weight("reviews-v1"), weight("reviews-v2"));
    let all = (v1 + v2).max(1.0);
    [100.0 * v1 / all, 100.0 * v2 / all]
}

fn workloads() -> String {
    let mut text = String::new();
    for sample in &SAMPLES {
        let app = sample.name.split('-').next().unwrap_or(sample.name);
        let (name, port) = sample.port;
        let address = sample.address();
        let _ = writeln!(
            text,
            "---\napiVersion: mesh.outrigger.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {}, namespace: shop, labels: {{app: {app}, version: {}}}}}\nspec:\n  address: {address}\n  serviceAccount: {}\n  ports: [{{name: {name}, port: {port}, appPort: {}, appAddress: {address}}}]",
            sample.name,
            sample.version,
            sample.account,
            port + 10_000
        );
        if sample.name == "web" {
            let _ = writeln!(text, "  outbound: {{tcp: [{{service: db, port: 5432, bind: \"{address}:15432\"}}]}}");
        }
    }
    text
}

fn services() -> String {
    let mut text = String::new();
    let mut add = |name: &str, selector: &str, (port_name, port): (&str, u16)| {
        let _ = writeln!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{selector: {{{selector}}}, ports: [{{name: {port_name}, port: {port}}}]}}"
        );
    };
    add("web", "app: web", ("http", 8080));
    add("reviews", "app: reviews", ("http", 9080));
    add("reviews-v1", "app: reviews, version: v1", ("http", 9080));
    add("reviews-v2", "app: reviews, version: v2", ("http", 9080));
    add("ratings", "app: ratings", ("http", 9080));
    add("cart", "app: cart", ("grpc", 9090));
    add("db", "app: db", ("tcp", 5432));
    text
}

const ACCESS: &str = "\
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all, namespace: shop}
spec: {matches: [{name: all, pathRegex: \"/.*\", methods: [\"*\"]}]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: web-to-reviews, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: reviews}
  sources: [{kind: ServiceAccount, name: web}]
  rules: [{kind: HTTPRouteGroup, name: all}]
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: reviews-to-ratings, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: ratings}
  sources: [{kind: ServiceAccount, name: reviews}]
  rules: [{kind: HTTPRouteGroup, name: all}]
";
