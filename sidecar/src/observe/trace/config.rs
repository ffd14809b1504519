//! `HttpConnectionManager.tracing` with its `ZipkinConfig` → [`Tracer`].

use std::net::IpAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::config::trace::v3::{ZipkinConfig, tracing, zipkin_config};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;
use envoy_types::pb::envoy::r#type::tracing::v3::{CustomTag as CustomTagConfig, custom_tag};
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Percent};

use super::exporter::Collector;
use super::{CustomTag, Propagation, Side, Tracer};
use crate::config::{ConfigError, Within, bool_or, each, is, type_name, u32_or, unpack};
use crate::matcher::Fraction;
use crate::matcher::config::runtime_fraction;

/// Compiles tracing; `None`: requests are not traced.
///
/// # Errors
/// Another provider than Zipkin, or a field that is not supported.
pub fn tracer(config: &Tracing, side: Side, own_address: Option<IpAddr>) -> Result<Option<Tracer>, ConfigError> {
    let Some(provider) = &config.provider else { return Ok(None) };
    let any = match &provider.config_type {
        Some(tracing::http::ConfigType::TypedConfig(any)) if is::<ZipkinConfig>(any) => any,
        Some(tracing::http::ConfigType::TypedConfig(any)) => {
            let (name, kind) = (&provider.name, type_name(any));
            return Err(ConfigError::at(
                "provider",
                format!("Didn't find a registered implementation for '{name}' with type URL: '{kind}'"),
            ));
        }
        None => return Err(ConfigError::at("provider.typed_config", "value is required")),
    };
    let zipkin: ZipkinConfig = unpack(any).within("provider.typed_config")?;
    let w3c = zipkin.trace_context_option() == zipkin_config::TraceContextOption::UseB3WithW3cPropagation;
    if zipkin.collector_service.is_some() {
        return Err(ConfigError::at("provider.typed_config.collector_service", "is not supported yet"));
    }
    if zipkin.collector_endpoint_version() != zipkin_config::CollectorEndpointVersion::HttpJson {
        return Err(ConfigError::at("provider.typed_config.collector_endpoint_version", "only HTTP_JSON is supported"));
    }
    let hostname = match zipkin.collector_hostname.as_str() {
        "" => zipkin.collector_cluster.clone(),
        hostname => hostname.to_owned(),
    };
    Ok(Some(Tracer {
        client_sampling: share("tracing.client_enabled", config.client_sampling.as_ref()),
        random_sampling: share("tracing.random_sampling", config.random_sampling.as_ref()),
        overall_sampling: share("tracing.global_enabled", config.overall_sampling.as_ref()),
        max_path_length: u32_or(config.max_path_tag_length.as_ref(), 256) as usize,
        side,
        own_address,
        custom_tags: each("custom_tags", &config.custom_tags, custom_tag)?,
        shared: bool_or(zipkin.shared_span_context.as_ref(), true),
        trace_id_128bit: zipkin.trace_id_128bit,
        propagation: if w3c { Propagation::B3AndW3c } else { Propagation::B3 },
        collector: Arc::new(Collector {
            cluster: zipkin.collector_cluster.clone(),
            path: zipkin.collector_endpoint.clone(),
            hostname,
        }),
    }))
}

/// In hundredths of a percent; all of them by default.
/// A share in ten-thousandths, which a runtime value may change. Source: Envoy's "Runtime", `tracing.*`.
fn share(key: &str, percent: Option<&Percent>) -> u32 {
    let configured = percent.map_or(10_000, |p| (p.value * 100.0).round().clamp(0.0, 10_000.0) as u32);
    let default_value = FractionalPercent { numerator: configured, denominator: DenominatorType::TenThousand.into() };
    let turned = RuntimeFractionalPercent { default_value: Some(default_value), runtime_key: key.to_owned() };
    let Fraction { numerator, denominator } = runtime_fraction(&turned);
    (u64::from(numerator) * 10_000 / u64::from(denominator.max(1))).min(10_000) as u32
}

fn custom_tag(config: &CustomTagConfig) -> Result<(String, CustomTag), ConfigError> {
    let tag = match &config.r#type {
        Some(custom_tag::Type::Literal(literal)) => CustomTag::Literal(literal.value.clone()),
        Some(custom_tag::Type::Environment(variable)) => {
            CustomTag::Literal(std::env::var(&variable.name).unwrap_or_else(|_| variable.default_value.clone()))
        }
        Some(custom_tag::Type::RequestHeader(header)) => {
            CustomTag::Header { name: header.name.to_ascii_lowercase(), default: header.default_value.clone() }
        }
        _ => return Err(ConfigError::new("this kind of custom tag is not supported yet")),
    };
    Ok((config.tag.clone(), tag))
}
