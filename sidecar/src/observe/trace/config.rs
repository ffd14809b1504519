//! `HttpConnectionManager.Tracing` → [`Tracer`].

use std::sync::Arc;

use envoy_types::pb::envoy::config::trace::v3::{ZipkinConfig, tracing, zipkin_config};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as parts;
use envoy_types::pb::envoy::r#type::metadata::v3::{MetadataKey, metadata_key, metadata_kind};
use envoy_types::pb::envoy::r#type::tracing::v3 as pb;
use envoy_types::pb::envoy::r#type::v3::Percent;

use super::{Collector, CustomTag, TagSource, Tracer, TracerStats};
use crate::config::{ConfigError, Within, bool_or, each, is, type_name, u32_or, unpack};
use crate::format::Format;
use crate::observe::stats::Scope;

/// Compiles a tracer; `None` where no provider is named. `scope` is the connection manager's.
///
/// # Errors
/// A provider or field that is not supported, or a collector that no cluster stands for.
pub fn tracer(
    config: &parts::Tracing,
    outbound: bool,
    scope: &Scope,
    cluster_exists: &dyn Fn(&str) -> bool,
) -> Result<Option<Tracer>, ConfigError> {
    let Some(provider) = &config.provider else { return Ok(None) };
    let Some(tracing::http::ConfigType::TypedConfig(any)) = &provider.config_type else {
        return Err(ConfigError::at("provider.typed_config", "value is required"));
    };
    if !is::<ZipkinConfig>(any) {
        return Err(ConfigError::at(
            "provider",
            format!(
                "Didn't find a registered implementation for '{}' with type URL: '{}'",
                provider.name,
                type_name(any)
            ),
        ));
    }
    let zipkin: ZipkinConfig = unpack(any).within("provider.typed_config")?;
    let collector = collector(&zipkin, cluster_exists).within("provider.typed_config")?;
    let counter = |name: &str| scope.child("tracing").counter(name);
    #[allow(deprecated)] // What spawn_upstream_span replaced is still written.
    let split = zipkin.split_spans_for_request;
    Ok(Some(Tracer {
        client_sampling: share("client_sampling", config.client_sampling.as_ref())?,
        random_sampling: share("random_sampling", config.random_sampling.as_ref())?,
        overall_sampling: share("overall_sampling", config.overall_sampling.as_ref())?,
        max_path: u32_or(config.max_path_tag_length.as_ref(), 256) as usize,
        custom_tags: each("custom_tags", &config.custom_tags, custom_tag)?,
        verbose: config.verbose,
        spawn_upstream_span: bool_or(config.spawn_upstream_span.as_ref(), split),
        outbound,
        collector: Arc::new(collector),
        long_trace_ids: zipkin.trace_id_128bit,
        shared_span_context: bool_or(zipkin.shared_span_context.as_ref(), true),
        w3c: zipkin.trace_context_option() == zipkin_config::TraceContextOption::UseB3WithW3cPropagation,
        stats: TracerStats {
            random_sampling: counter("random_sampling"),
            service_forced: counter("service_forced"),
            client_enabled: counter("client_enabled"),
            not_traceable: counter("not_traceable"),
            health_check: counter("health_check"),
        },
    }))
}

/// Percent → hundredths of a percent; all by default.
fn share(field: &str, percent: Option<&Percent>) -> Result<u64, ConfigError> {
    match percent.map(|p| p.value) {
        None => Ok(10_000),
        Some(value) if (0.0..=100.0).contains(&value) => Ok((value * 100.0).round() as u64),
        Some(value) => Err(ConfigError::at(field, format!("{value} is not from 0 to 100"))),
    }
}

fn collector(zipkin: &ZipkinConfig, cluster_exists: &dyn Fn(&str) -> bool) -> Result<Collector, ConfigError> {
    use zipkin_config::CollectorEndpointVersion as Version;
    if zipkin.collector_service.is_some() {
        return Err(ConfigError::at("collector_service", "is not supported: name collector_cluster and its endpoint"));
    }
    if zipkin.timestamp_trace_ids {
        return Err(ConfigError::at("timestamp_trace_ids", "is not supported yet"));
    }
    if zipkin.collector_endpoint_version() != Version::HttpJson {
        return Err(ConfigError::at("collector_endpoint_version", "only HTTP_JSON is supported"));
    }
    for (field, value) in
        [("collector_cluster", &zipkin.collector_cluster), ("collector_endpoint", &zipkin.collector_endpoint)]
    {
        if value.is_empty() {
            return Err(ConfigError::at(field, "value length must be at least 1 characters"));
        }
    }
    if !cluster_exists(&zipkin.collector_cluster) {
        return Err(ConfigError::at("collector_cluster", format!("unknown cluster '{}'", zipkin.collector_cluster)));
    }
    if zipkin.collector_endpoint.parse::<http::uri::PathAndQuery>().is_err() {
        return Err(ConfigError::at("collector_endpoint", format!("'{}' is no path", zipkin.collector_endpoint)));
    }
    let host = match zipkin.collector_hostname.as_str() {
        "" => &zipkin.collector_cluster,
        host => host,
    };
    if http::HeaderValue::from_str(host).is_err() {
        return Err(ConfigError::at("collector_hostname", "is no header value"));
    }
    Ok(Collector {
        cluster: zipkin.collector_cluster.clone(),
        endpoint: zipkin.collector_endpoint.clone(),
        host: host.to_owned(),
    })
}

fn custom_tag(config: &pb::CustomTag) -> Result<CustomTag, ConfigError> {
    use pb::custom_tag::Type;
    let (source, default) = match config.r#type.as_ref() {
        None => return Err(ConfigError::at("type", "value is required")),
        Some(Type::Literal(literal)) => (TagSource::Literal(literal.value.clone()), String::new()),
        // A process's environment does not change.
        Some(Type::Environment(variable)) => {
            let value = std::env::var(&variable.name).unwrap_or_else(|_| variable.default_value.clone());
            (TagSource::Literal(value), String::new())
        }
        Some(Type::RequestHeader(header)) => {
            (TagSource::RequestHeader(header.name.to_ascii_lowercase()), header.default_value.clone())
        }
        Some(Type::Metadata(metadata)) => (metadata_source(metadata)?, metadata.default_value.clone()),
        Some(Type::Value(format)) => (TagSource::Value(Format::parse(format).within("value")?), String::new()),
    };
    Ok(CustomTag { tag: config.tag.clone(), source, default })
}

fn metadata_source(metadata: &pb::custom_tag::Metadata) -> Result<TagSource, ConfigError> {
    use metadata_kind::Kind;
    let path = path(metadata.metadata_key.as_ref())?;
    match metadata.kind.as_ref().and_then(|k| k.kind.as_ref()) {
        Some(Kind::Request(_)) => Ok(TagSource::RequestMetadata(path)),
        Some(Kind::Host(_)) => Ok(TagSource::HostMetadata(path)),
        Some(Kind::Route(_) | Kind::Cluster(_)) => Err(ConfigError::at("metadata.kind", "is not supported yet")),
        None => Err(ConfigError::at("metadata.kind", "value is required")),
    }
}

fn path(key: Option<&MetadataKey>) -> Result<Vec<String>, ConfigError> {
    use metadata_key::path_segment::Segment;
    let key = key.ok_or_else(|| ConfigError::at("metadata.metadata_key", "value is required"))?;
    let mut path = vec![key.key.clone()];
    for segment in &key.path {
        match &segment.segment {
            Some(Segment::Key(key)) => path.push(key.clone()),
            _ => return Err(ConfigError::at("metadata.metadata_key.path", "only keys are supported")),
        }
    }
    Ok(path)
}
