//! A workload as a Struct, and back: what proxies of one mesh tell each other of themselves, whichever way it travels.
//! Source: Istio's `convertWorkloadMetadataToStruct` and `convertStructToWorkloadMetadata`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use prost::Message;
use tracing::warn;
use xds::istio::stats::PluginConfig;

use super::{Own, Workload};

const TOLD: [&str; 4] = ["NAME", "NAMESPACE", "WORKLOAD_NAME", "CLUSTER_ID"];
const LABELS: &str = "LABELS";
const SERVICE: &str = "service.istio.io/canonical-name";
const REVISION: &str = "service.istio.io/canonical-revision";
const TOLD_LABELS: [&str; 6] =
    ["app", "version", "app.kubernetes.io/name", "app.kubernetes.io/version", SERVICE, REVISION];

fn text<'a>(all: &'a Struct, key: &str) -> &'a str {
    match all.fields.get(key).and_then(|v| v.kind.as_ref()) {
        Some(Kind::StringValue(text)) => text,
        _ => "",
    }
}

fn labels(all: &Struct) -> Option<&Struct> {
    match all.fields.get(LABELS).and_then(|v| v.kind.as_ref()) {
        Some(Kind::StructValue(labels)) => Some(labels),
        _ => None,
    }
}

/// The workload that a Struct tells of; what it does not tell is empty.
pub fn workload(all: &Struct) -> Workload {
    let label = |names: &[&str]| {
        let labels = labels(all);
        let found = names.iter().filter_map(|name| labels.map(|l| text(l, name))).find(|v| !v.is_empty());
        found.unwrap_or("").to_owned()
    };
    Workload {
        name: text(all, "WORKLOAD_NAME").to_owned(),
        namespace: text(all, "NAMESPACE").to_owned(),
        app: label(&["app", "app.kubernetes.io/name"]),
        version: label(&["version", "app.kubernetes.io/version"]),
        cluster: text(all, "CLUSTER_ID").to_owned(),
        canonical_service: label(&[SERVICE]),
        canonical_revision: label(&[REVISION]),
    }
}

/// Those of the labels that are asked for and there.
pub fn some_labels(all: &Struct, wanted: &[String]) -> BTreeMap<String, String> {
    let found =
        wanted.iter().map(|name| (name.clone(), labels(all).map_or("", |labels| text(labels, name)).to_owned()));
    found.filter(|(_, value)| !value.is_empty()).collect()
}

/// What this proxy says of itself, from its node's metadata.
pub fn own(node: &Node) -> Own {
    let Some(all) = &node.metadata else { return Own { id: node.id.clone(), ..Own::default() } };
    let labels = labels(all).map(|labels| {
        labels.fields.keys().map(|name| (name.clone(), text(labels, name).to_owned())).collect::<BTreeMap<_, _>>()
    });
    Own {
        workload: workload(all),
        id: node.id.clone(),
        encoded: STANDARD.encode(told(all).encode_to_vec()),
        labels: labels.unwrap_or_default(),
    }
}

fn string(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

fn structure(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value { kind: Some(Kind::StructValue(Struct { fields: fields.into_iter().collect() })) }
}

fn told(all: &Struct) -> Struct {
    let mut told = Struct::default();
    for key in TOLD {
        told.fields.extend(all.fields.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    if let Some(labels) = labels(all) {
        let kept = TOLD_LABELS.into_iter().filter_map(|name| Some((name.to_owned(), labels.fields.get(name)?.clone())));
        told.fields.insert(LABELS.to_owned(), structure(kept));
    }
    told
}

/// What [`own`] says, with more of its labels.
pub fn own_struct(own: &Own, more_labels: &[String]) -> Struct {
    let mut told = read(&own.encoded).unwrap_or_default();
    let more = more_labels.iter().filter_map(|name| Some((name.clone(), string(own.labels.get(name)?))));
    let more: Vec<_> = more.collect();
    if !more.is_empty() {
        let mut kept = labels(&told).cloned().unwrap_or_default();
        kept.fields.extend(more);
        told.fields.insert(LABELS.to_owned(), structure(kept.fields));
    }
    told
}

/// The Struct that a text in base64 is; `None`: it is none.
pub fn read(encoded: &str) -> Option<Struct> {
    Struct::decode(STANDARD.decode(encoded).ok()?.as_slice()).ok()
}

/// Changes to the standard metrics are not supported. Only what the metrics show would differ, so they are passed over with a warning.
pub fn standard_only(filter: &str, config: &PluginConfig) {
    if !config.metrics.is_empty() || !config.definitions.is_empty() {
        warn!(filter, "metrics and definitions are not supported: the standard metrics are reported");
    }
}

/// One Struct as a field of another.
pub fn within(inner: Struct) -> Value {
    structure(inner.fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(labels: &[(&str, &str)]) -> Node {
        let labels = structure(labels.iter().map(|(name, value)| ((*name).to_owned(), string(value))));
        let fields = [("WORKLOAD_NAME", string("web-1")), ("NAMESPACE", string("shop")), ("LABELS", labels)];
        let fields = fields.map(|(key, value)| (key.to_owned(), value)).into();
        Node { metadata: Some(Struct { fields }), ..Node::default() }
    }

    /// A workload as another proxy hears of it.
    fn own_of(labels: &[(&str, &str)]) -> Workload {
        workload(&read(&own(&node(labels)).encoded).unwrap())
    }

    #[test]
    fn what_is_told_is_understood() {
        let own = own(&node(&[("app", "web"), ("version", "v1"), ("role", "front"), ("secret", "x")]));
        let heard = read(&own.encoded).unwrap();
        assert_eq!(workload(&heard), own.workload);
        assert_eq!((own.workload.app.as_str(), own.workload.version.as_str()), ("web", "v1"));
        assert_eq!((own.workload.service(), own.workload.revision()), ("web", "v1"));
        let canonical = own_of(&[("app", "web"), (SERVICE, "shop-web"), (REVISION, "r2")]);
        assert_eq!((canonical.service(), canonical.revision()), ("shop-web", "r2"));
        let bare = own_of(&[]);
        assert_eq!((bare.service(), bare.revision()), ("web-1", "latest"));
        assert_eq!(read("%%%"), None);
        let more = ["role".to_owned(), "absent".to_owned()];
        assert_eq!(some_labels(&heard, &more), BTreeMap::new());
        let heard = own_struct(&own, &more);
        assert_eq!(workload(&heard), own.workload);
        assert_eq!(some_labels(&heard, &more), [("role".to_owned(), "front".to_owned())].into());
        assert_eq!(some_labels(&heard, &["secret".to_owned()]), BTreeMap::new());
    }
}
