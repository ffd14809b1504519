//! `HttpConnectionManager.tracing` with its `ZipkinConfig` → [`Tracer`].

use std::net::IpAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{HeaderValueOption, HttpService, RuntimeFractionalPercent, http_uri};
use envoy_types::pb::envoy::config::trace::v3::{ZipkinConfig, tracing, zipkin_config};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;
use envoy_types::pb::envoy::r#type::metadata::v3::metadata_key::path_segment;
use envoy_types::pb::envoy::r#type::metadata::v3::metadata_kind;
use envoy_types::pb::envoy::r#type::tracing::v3::{CustomTag as CustomTagConfig, custom_tag};
use envoy_types::pb::envoy::r#type::v3::fractional_percent::DenominatorType;
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, Percent};

use http::header::{HeaderName, HeaderValue};

use super::exporter::Collector;
use super::{CustomTag, Propagation, Side, Tracer};
use crate::config::{ConfigError, Within, bool_or, duration, each, is, type_name, u32_or, unpack};
use crate::format::{Format, MetadataOf};
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
    if zipkin.collector_endpoint_version() != zipkin_config::CollectorEndpointVersion::HttpJson {
        return Err(ConfigError::at("provider.typed_config.collector_endpoint_version", "only HTTP_JSON is supported"));
    }
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
        collector: Arc::new(collector(&zipkin).within("provider.typed_config")?),
    }))
}

/// The service goes before the older fields.
fn collector(config: &ZipkinConfig) -> Result<Collector, ConfigError> {
    if let Some(service) = &config.collector_service {
        return collector_service(service).within("collector_service");
    }
    let hostname = match config.collector_hostname.as_str() {
        "" => config.collector_cluster.clone(),
        hostname => hostname.to_owned(),
    };
    Ok(Collector {
        cluster: config.collector_cluster.clone(),
        path: config.collector_endpoint.clone(),
        hostname,
        headers: Vec::new(),
        timeout: None,
    })
}

/// The URI may be a path alone. Source: Envoy's `ReporterImpl` of Zipkin.
fn collector_service(config: &HttpService) -> Result<Collector, ConfigError> {
    let uri = config.http_uri.as_ref().ok_or_else(|| ConfigError::at("http_uri", "value is required"))?;
    let Some(http_uri::HttpUpstreamType::Cluster(cluster)) = &uri.http_upstream_type else {
        return Err(ConfigError::at("http_uri.cluster", "value is required"));
    };
    if !config.formatters.is_empty() {
        return Err(ConfigError::at("formatters", "is not supported yet"));
    }
    let (hostname, path) = match uri.uri.split_once("://") {
        Some((_, rest)) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => (cluster.as_str(), uri.uri.as_str()),
    };
    Ok(Collector {
        cluster: cluster.clone(),
        path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
        hostname: hostname.to_owned(),
        headers: each("request_headers_to_add", &config.request_headers_to_add, header)?,
        timeout: duration(uri.timeout.as_ref()).filter(|timeout| !timeout.is_zero()),
    })
}

/// A header of each report. No request is at hand from which an operator could take anything.
fn header(config: &HeaderValueOption) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let header = config.header.as_ref().ok_or_else(|| ConfigError::at("header", "value is required"))?;
    let text = header.value.replace("%%", "");
    if text.contains('%') {
        return Err(ConfigError::at("header.value", "operators are not supported here"));
    }
    let name = HeaderName::try_from(header.key.as_str());
    let value = HeaderValue::try_from(header.value.replace("%%", "%"));
    name.ok().zip(value.ok()).ok_or_else(|| ConfigError::at("header", "is no header"))
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
        Some(custom_tag::Type::Metadata(metadata)) => CustomTag::Late {
            value: metadata_value(metadata).within("metadata")?,
            default: metadata.default_value.clone(),
        },
        _ => return Err(ConfigError::new("this kind of custom tag is not supported yet")),
    };
    Ok((config.tag.clone(), tag))
}

fn metadata_value(config: &custom_tag::Metadata) -> Result<Format, ConfigError> {
    let of = match config.kind.and_then(|kind| kind.kind) {
        Some(metadata_kind::Kind::Request(_)) => MetadataOf::Dynamic,
        Some(metadata_kind::Kind::Route(_)) => MetadataOf::Route,
        Some(metadata_kind::Kind::Cluster(_)) => MetadataOf::Cluster,
        Some(metadata_kind::Kind::Host(_)) => MetadataOf::UpstreamHost,
        None => return Err(ConfigError::at("kind", "value is required")),
    };
    let key = config.metadata_key.as_ref().ok_or_else(|| ConfigError::at("metadata_key", "value is required"))?;
    let keys = each("metadata_key.path", &key.path, |segment| match &segment.segment {
        Some(path_segment::Segment::Key(key)) => Ok(key.clone()),
        Some(path_segment::Segment::Index(_)) => Err(ConfigError::at("index", "is not supported yet")),
        None => Err(ConfigError::at("key", "value is required")),
    })?;
    Ok(Format::metadata(of, std::iter::once(key.key.clone()).chain(keys).collect()))
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::{HeaderValue as Header, HttpUri};
    use envoy_types::pb::envoy::r#type::metadata::v3::metadata_key::PathSegment;
    use envoy_types::pb::envoy::r#type::metadata::v3::{MetadataKey, MetadataKind};
    use envoy_types::pb::google::protobuf::Duration;

    use super::*;

    fn service(uri: &str, header: Option<&str>) -> Result<Collector, String> {
        let header = header.map(|value| HeaderValueOption {
            header: Some(Header { key: "X-Token".to_owned(), value: value.to_owned(), ..Default::default() }),
            ..Default::default()
        });
        let service = HttpService {
            http_uri: Some(HttpUri {
                uri: uri.to_owned(),
                timeout: Some(Duration { seconds: 3, nanos: 0 }),
                http_upstream_type: Some(http_uri::HttpUpstreamType::Cluster("spans".to_owned())),
            }),
            request_headers_to_add: header.into_iter().collect(),
            ..Default::default()
        };
        let config = ZipkinConfig {
            collector_cluster: "older".to_owned(),
            collector_service: Some(service),
            ..Default::default()
        };
        collector(&config).map_err(|e| e.to_string())
    }

    #[test]
    fn collectors() {
        for (uri, hostname, path) in [
            ("http://zipkin.observe:9411/api/v2/spans", "zipkin.observe:9411", "/api/v2/spans"),
            ("/api/v2/spans", "spans", "/api/v2/spans"),
            ("https://zipkin.test", "zipkin.test", "/"),
        ] {
            let got = service(uri, None).unwrap();
            assert_eq!((got.cluster.as_str(), got.hostname.as_str(), got.path.as_str()), ("spans", hostname, path));
            assert_eq!(got.timeout, Some(std::time::Duration::from_secs(3)));
        }
        let got = service("/", Some("50%%")).unwrap().headers;
        assert_eq!(got, [(HeaderName::from_static("x-token"), HeaderValue::from_static("50%"))]);
        for (value, words) in
            [("%PROTOCOL%", "header.value: operators are not supported here"), ("a\n", "header: is no header")]
        {
            assert_eq!(service("/", Some(value)), Err(format!("collector_service.request_headers_to_add[0].{words}")));
        }
    }

    #[test]
    fn tags_of_metadata() {
        let path = |segment| MetadataKey {
            key: "envoy.filters.http.rbac".to_owned(),
            path: vec![PathSegment { segment: Some(segment) }],
        };
        let tag = |segment| {
            let metadata = custom_tag::Metadata {
                kind: Some(MetadataKind { kind: Some(metadata_kind::Kind::Request(Default::default())) }),
                metadata_key: Some(path(segment)),
                default_value: "none".to_owned(),
            };
            custom_tag(&CustomTagConfig { tag: "t".to_owned(), r#type: Some(custom_tag::Type::Metadata(metadata)) })
        };
        let expected = Format::parse("%DYNAMIC_METADATA(envoy.filters.http.rbac:result)%").unwrap();
        let late = CustomTag::Late { value: expected, default: "none".to_owned() };
        assert_eq!(tag(path_segment::Segment::Key("result".to_owned())), Ok(("t".to_owned(), late)));
        let refused = tag(path_segment::Segment::Index(1)).unwrap_err().to_string();
        assert_eq!(refused, "metadata.metadata_key.path[0].index: is not supported yet");
    }
}
