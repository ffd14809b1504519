//! `io.istio.http.peer_metadata.Config` → [`PeerMetadata`]; a workload as a Struct, and back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use prost::Message;
use xds::istio::peer_metadata::Config;
use xds::istio::peer_metadata::discovery_method::MethodSpecifier as Discovery;
use xds::istio::peer_metadata::propagation_method::MethodSpecifier as Propagation;

use super::{Directions, PeerMetadata};
use crate::observe::workload::{Own, Workload};

/// Longer ones are not from a proxy of a mesh.
const LARGEST: usize = 16 << 10;

/// Compiles the filter. Ways of discovery that need more than headers are passed over: what they would tell
/// is only missing in metrics.
pub fn filter(name: &str, config: &Config) -> PeerMetadata {
    let reads = |methods: &[xds::istio::peer_metadata::DiscoveryMethod]| {
        methods.iter().any(|m| matches!(m.method_specifier, Some(Discovery::IstioHeaders(_))))
    };
    let writes = |methods: &[xds::istio::peer_metadata::PropagationMethod]| {
        methods.iter().any(|m| matches!(m.method_specifier, Some(Propagation::IstioHeaders(_))))
    };
    PeerMetadata {
        name: name.to_owned(),
        directions: Directions {
            discover_downstream: reads(&config.downstream_discovery),
            discover_upstream: reads(&config.upstream_discovery),
            tell_downstream: writes(&config.downstream_propagation),
            tell_upstream: writes(&config.upstream_propagation),
            skip_external: config
                .upstream_propagation
                .iter()
                .any(|m| matches!(&m.method_specifier, Some(Propagation::IstioHeaders(h)) if h.skip_external_clusters)),
        },
    }
}

fn text<'a>(all: &'a Struct, key: &str) -> &'a str {
    match all.fields.get(key).and_then(|v| v.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text,
        _ => "",
    }
}

fn labels(all: &Struct) -> Option<&Struct> {
    match all.fields.get("LABELS").and_then(|v| v.kind.as_ref()) {
        Some(Kind::StructValue(labels)) => Some(labels),
        _ => None,
    }
}

fn workload(all: &Struct) -> Workload {
    let label = |names: [&str; 2]| {
        let labels = labels(all);
        let found = names.iter().filter_map(|name| labels.map(|l| text(l, name))).find(|v| !v.is_empty());
        found.unwrap_or("").to_owned()
    };
    Workload {
        name: text(all, "WORKLOAD_NAME").to_owned(),
        namespace: text(all, "NAMESPACE").to_owned(),
        app: label(["app", "app.kubernetes.io/name"]),
        version: label(["version", "app.kubernetes.io/version"]),
        cluster: text(all, "CLUSTER_ID").to_owned(),
    }
}

/// What this proxy says of itself, from its node's metadata.
pub fn own(node: &Node) -> Own {
    let Some(all) = &node.metadata else { return Own { id: node.id.clone(), ..Own::default() } };
    let mut told = Struct::default();
    for key in ["NAME", "NAMESPACE", "WORKLOAD_NAME", "CLUSTER_ID"] {
        told.fields.extend(all.fields.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    if let Some(labels) = labels(all) {
        let mut kept = Struct::default();
        for key in ["app", "version", "app.kubernetes.io/name", "app.kubernetes.io/version"] {
            kept.fields.extend(labels.fields.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        told.fields.insert("LABELS".to_owned(), Value { kind: Some(Kind::StructValue(kept)) });
    }
    Own { workload: workload(all), id: node.id.clone(), encoded: STANDARD.encode(told.encode_to_vec()) }
}

/// Reads what another proxy says of itself; `None`: it can't be read.
pub fn decode(encoded: &str) -> Option<Workload> {
    if encoded.len() > LARGEST {
        return None;
    }
    let bytes = STANDARD.decode(encoded).ok()?;
    Struct::decode(bytes.as_slice()).ok().map(|all| workload(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let labels = Struct { fields: [("app".to_owned(), value("web")), ("version".to_owned(), value("v1"))].into() };
        let labels = Value { kind: Some(Kind::StructValue(labels)) };
        let fields = [
            ("WORKLOAD_NAME".to_owned(), value("web-1")),
            ("NAMESPACE".to_owned(), value("shop")),
            ("LABELS".to_owned(), labels),
        ];
        let node = Node { metadata: Some(Struct { fields: fields.into() }), ..Node::default() };
        let own = own(&node);
        assert_eq!(decode(&own.encoded), Some(own.workload.clone()));
        assert_eq!((own.workload.app.as_str(), own.workload.version.as_str()), ("web", "v1"));
        assert_eq!(decode("%%%"), None);
    }
}
