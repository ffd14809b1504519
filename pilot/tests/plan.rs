//! Every folder of `testdata/plan` is a case: `in.yaml` holds objects and, in its first line, whose proxy is meant
//! (`# NAMESPACE/WORKLOAD FLAVOUR`); `out.yaml` is what that proxy is sent. `UPDATE_GOLDEN=1` rewrites the latter.
//!
//! With `ENVOY_BIN` set, Envoy itself judges whether it would take what is sent.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use api::Key;
use pilot::ir::Families;
use pilot::mesh::{self, Domains};
use pilot::plan::{Flavour, ProxyClass};
use pilot::{generate, plan};
use serde_json::{Value, json};
use xds::json::{Secrets, print_encoded};
use xds::type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT, LISTENER, ROUTE_CONFIGURATION, message_name};
use xds::{ResourceSet, Schema};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/plan");
    let mut cases: Vec<_> = root.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// What the proxy that a case names is sent.
fn sent(case: &Path) -> ResourceSet {
    let text = std::fs::read_to_string(case.join("in.yaml")).unwrap();
    let mut words = text.lines().next().unwrap().trim_start_matches('#').split_whitespace();
    let (namespace, name) = words.next().unwrap().split_once('/').unwrap();
    let flavour = match words.next() {
        Some("envoy") => Flavour::Envoy,
        Some("grpc") => Flavour::Grpc,
        _ => Flavour::Outrigger,
    };
    let class = ProxyClass { workload: Key::new(namespace, name), flavour, families: Families::V4 };
    let (objects, problems) = api::manifest::objects("in.yaml", &text);
    assert!(problems.is_empty(), "{problems:?}");
    let (mesh, _) = mesh::build(&objects, &Domains::default());
    let mut set = generate::resources(&plan::build(&mesh, &class).unwrap());
    set.extend(generate::endpoints(&plan::endpoints(&mesh)).iter().cloned());
    set
}

fn printed(set: &ResourceSet, type_url: &str) -> Vec<Value> {
    let schema = Schema::shared();
    let one = |resource: &xds::Resource| {
        let json = print_encoded(&schema, message_name(type_url), &resource.body, Secrets::Show).unwrap();
        serde_json::from_str(&json.compact()).unwrap()
    };
    set.of_type(type_url).into_iter().flat_map(|names| names.values()).map(one).collect()
}

#[test]
fn golden() {
    let mut wrong = Vec::new();
    for case in cases() {
        let set = sent(&case);
        let got = json!({
            "listeners": printed(&set, LISTENER),
            "routes": printed(&set, ROUTE_CONFIGURATION),
            "clusters": printed(&set, CLUSTER),
            "endpoints": printed(&set, CLUSTER_LOAD_ASSIGNMENT),
        });
        let got = serde_saphyr::to_string(&got).unwrap();
        let out = case.join("out.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&out, &got).unwrap();
        } else if std::fs::read_to_string(&out).unwrap_or_default() != got {
            wrong.push(case.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "not as expected (UPDATE_GOLDEN=1 rewrites, git diff shows): {wrong:?}");
}

/// A bootstrap in which all that is sent is static.
fn bootstrap(set: &ResourceSet) -> Value {
    let tables = printed(set, ROUTE_CONFIGURATION);
    let mut listeners = printed(set, LISTENER);
    listeners.iter_mut().for_each(|listener| inline_routes(listener, &tables));
    let mut clusters = printed(set, CLUSTER);
    let twins: Vec<Value> = clusters.iter_mut().filter_map(by_eds).collect();
    clusters.extend(twins);
    for (n, assignment) in printed(set, CLUSTER_LOAD_ASSIGNMENT).into_iter().enumerate() {
        clusters.push(json!({"name": format!("endpoints-{n}"), "type": "STATIC", "load_assignment": assignment}));
    }
    clusters.push(json!({
        "name": "xds-grpc", "type": "STATIC",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}},
        "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [{"endpoint": {"address":
            {"socket_address": {"address": "127.0.0.1", "port_value": 15010}}}}]}]},
    }));
    let ads = json!({"api_type": "GRPC", "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}]});
    json!({
        "node": {"id": "sidecar~127.0.0.1~web.shop~shop.svc.cluster.local", "cluster": "web.shop"},
        "dynamic_resources": {"ads_config": ads},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

/// A static cluster of Envoy's that is no EDS cluster is made before ADS is there to give it secrets, and breaks; sent, it comes later.
/// So its TLS is judged in a twin.
fn by_eds(cluster: &mut Value) -> Option<Value> {
    let mut twin = cluster.clone();
    let fields = cluster.as_object_mut()?;
    fields.remove("transport_socket")?;
    twin["name"] = format!("{}-twin", twin["name"].as_str()?).into();
    twin["type"] = "EDS".into();
    twin["lb_policy"] = "ROUND_ROBIN".into();
    twin["eds_cluster_config"] = json!({"eds_config": {"ads": {}, "resource_api_version": "V3"}});
    Some(twin)
}

fn inline_routes(node: &mut Value, tables: &[Value]) {
    match node {
        Value::Object(fields) => {
            if let Some(name) = fields.remove("rds").and_then(|rds| rds.get("route_config_name").cloned()) {
                let table = tables.iter().find(|table| table.get("name") == Some(&name)).unwrap();
                fields.insert("route_config".to_owned(), table.clone());
            }
            fields.values_mut().for_each(|value| inline_routes(value, tables));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| inline_routes(item, tables)),
        _ => {}
    }
}

#[test]
fn envoy_takes_it() {
    let Some(envoy) = std::env::var_os("ENVOY_BIN") else {
        eprintln!("skipped: ENVOY_BIN names no Envoy");
        return;
    };
    for case in cases() {
        if !std::fs::read_to_string(case.join("in.yaml")).unwrap().lines().next().unwrap().ends_with("envoy") {
            continue;
        }
        let config = bootstrap(&sent(&case)).to_string();
        let output = Command::new(&envoy)
            .args(["--mode", "validate", "--log-level", "warn", "--config-yaml", &config])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}:\n{said}", case.display());
    }
}

/// Resources of one plan have the same versions each time, and a change of one endpoint changes one assignment.
#[test]
fn versions_follow_content() {
    let case = &cases()[0];
    let versions = || sent(case).iter().map(|r| (r.name.clone(), r.version.clone())).collect::<Vec<_>>();
    assert_eq!(versions(), versions());
}
