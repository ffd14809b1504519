//! Spans: Zipkin v2 JSON, B3 and W3C trace context read and passed on.

use envoy_types::pb::envoy::config::trace::v3::{ZipkinConfig, tracing, zipkin_config};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing as Settings;
use envoy_types::pb::envoy::r#type::v3::Percent;

use super::{any, value};
use crate::ir::Tracing;

/// Client and server spans are spans of their own, as in Istio.
pub(super) fn tracing(tracing: &Tracing) -> Settings {
    let zipkin = ZipkinConfig {
        collector_cluster: tracing.cluster.clone(),
        collector_endpoint: tracing.path.clone(),
        collector_hostname: tracing.host.clone(),
        collector_endpoint_version: zipkin_config::CollectorEndpointVersion::HttpJson.into(),
        trace_id_128bit: true,
        shared_span_context: value::flag(false),
        trace_context_option: zipkin_config::TraceContextOption::UseB3WithW3cPropagation.into(),
        ..Default::default()
    };
    Settings {
        client_sampling: Some(Percent { value: 100.0 }),
        random_sampling: value::percent(tracing.sampling),
        overall_sampling: Some(Percent { value: 100.0 }),
        provider: Some(tracing::Http {
            name: "envoy.tracers.zipkin".to_owned(),
            config_type: Some(tracing::http::ConfigType::TypedConfig(any(&zipkin))),
        }),
        ..Default::default()
    }
}
