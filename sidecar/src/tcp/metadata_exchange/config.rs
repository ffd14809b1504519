//! `envoy.tcp.metadataexchange.config.MetadataExchange` → [`MetadataExchange`]; what a frame says, and what ours does.

use bytes::Bytes;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, Struct, Value};
use prost::Message;
use xds::istio::metadata_exchange::MetadataExchange as Config;

use super::{ExchangeStats, MetadataExchange, frame};
use crate::config::{ConfigError, unpack};
use crate::observe::stats::Scope;
use crate::observe::workload::config::{own_struct, some_labels, within, workload};
use crate::observe::workload::{Own, Peer, own};

const METADATA: &str = "x-envoy-peer-metadata";
const ID: &str = "x-envoy-peer-metadata-id";

/// Compiles the filter. Discovery of workloads by their addresses is not known here: who says nothing of itself is
/// only missing in metrics.
///
/// # Errors
/// No ALPN name.
pub fn filter(config: &Config) -> Result<MetadataExchange, ConfigError> {
    if config.protocol.is_empty() {
        return Err(ConfigError::at("protocol", "value is required"));
    }
    let scope = Scope::root().child("metadata_exchange");
    Ok(MetadataExchange {
        protocol: config.protocol.clone(),
        own: told(own(), &config.additional_labels),
        labels: config.additional_labels.clone(),
        stats: ExchangeStats {
            alpn_protocol_found: scope.counter("alpn_protocol_found"),
            alpn_protocol_not_found: scope.counter("alpn_protocol_not_found"),
            initial_header_not_found: scope.counter("initial_header_not_found"),
            header_not_found: scope.counter("header_not_found"),
            metadata_added: scope.counter("metadata_added"),
        },
    })
}

/// Our frame. Source: Istio's `MetadataExchangeFilter::writeNodeMetadata`.
pub fn told(own: &Own, labels: &[String]) -> Bytes {
    let mut all = Struct::default();
    all.fields.insert(METADATA.to_owned(), within(own_struct(own, labels)));
    if !own.id.is_empty() {
        all.fields.insert(ID.to_owned(), Value { kind: Some(Kind::StringValue(own.id.clone())) });
    }
    let any = Any { type_url: "type.googleapis.com/google.protobuf.Struct".to_owned(), value: all.encode_to_vec() };
    frame::encode(&any.encode_to_vec())
}

/// What another proxy's frame says; `None`: it can't be read, or says nothing of a workload.
pub fn peer(content: &[u8], labels: &[String]) -> Option<Peer> {
    let all: Struct = unpack(&Any::decode(content).ok()?).ok()?;
    let Some(Kind::StructValue(told)) = all.fields.get(METADATA)?.kind.as_ref() else { return None };
    let workload = workload(told);
    let named = [
        ("workload", &workload.name),
        ("namespace", &workload.namespace),
        ("app", &workload.app),
        ("version", &workload.version),
        ("cluster", &workload.cluster),
        ("service", &workload.canonical_service),
        ("revision", &workload.canonical_revision),
    ];
    let named = named.into_iter().filter(|(_, value)| !value.is_empty());
    let mut shown: serde_json::Map<_, _> =
        named.map(|(key, value)| (key.to_owned(), serde_json::Value::from(value.as_str()))).collect();
    let labels = some_labels(told, labels);
    if !labels.is_empty() {
        shown.insert("labels".to_owned(), labels.into_iter().collect());
    }
    let shown = serde_json::json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": shown});
    Some(Peer { workload, shown: shown.to_string() })
}
