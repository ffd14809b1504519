//! The HTTP filters of a connection manager → the chain; a route's settings for them. One line a filter.

use std::any::Any as StdAny;
use std::borrow::Cow;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::FilterConfig;
use envoy_types::pb::envoy::extensions::filters::http::buffer::v3::{Buffer, BufferPerRoute};
use envoy_types::pb::envoy::extensions::filters::http::compressor::v3::{Compressor, CompressorPerRoute};
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::{Cors, CorsPolicy};
use envoy_types::pb::envoy::extensions::filters::http::csrf::v3::CsrfPolicy;
use envoy_types::pb::envoy::extensions::filters::http::decompressor::v3::Decompressor;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_forward_proxy::v3::FilterConfig as ForwardProxy;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{ExtAuthz, ExtAuthzPerRoute};
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig as GrpcStats;
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::{HeaderMutation, HeaderMutationPerRoute};
use envoy_types::pb::envoy::extensions::filters::http::health_check::v3::HealthCheck;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac, RbacPerRoute};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::http::set_metadata::v3::Config as SetMetadata;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf;
use xds::istio::alpn::FilterConfig as AlpnConfig;
use xds::istio::peer_metadata::Config as PeerMetadata;
use xds::istio::stats::PluginConfig;

use super::dynamic_forward_proxy::DynamicForwardProxy;
use super::{
    Disabled, Enabled, HttpFilter, Link, alpn, buffer, compressor, cors, csrf, decompressor, ext_authz, fault,
    grpc_stats, header_mutation, health_check, istio_stats, local_ratelimit, peer_metadata, rbac, set_metadata,
};
use crate::config::{ConfigError, Within, is, opened, type_name, unpack, unregistered};
use crate::http::router::RouterOptions;
use crate::observe::stats::Scope;

/// Compiles a chain; the router must end it.
///
/// # Errors
/// A filter that is not known and not optional, or no router at the end.
pub fn chain(configs: &[hcm::HttpFilter], scope: &Scope) -> Result<(Vec<Link>, RouterOptions), ConfigError> {
    let mut filters = Vec::new();
    let mut router = None;
    for (i, config) in configs.iter().enumerate() {
        let path = format!("http_filters[{i}]");
        let any = &*typed(config).within(&path)?;
        if is::<Router>(any) {
            if i + 1 != configs.len() {
                return Err(ConfigError::at(path, "the router must be the last filter"));
            }
            let config: Router = unpack(any).within(&path)?;
            router = Some(RouterOptions { suppress_envoy_headers: config.suppress_envoy_headers });
            continue;
        }
        match filter(&config.name, any, scope).within(&path)? {
            Some(filter) => filters.push(Link { filter, disabled: config.disabled }),
            None if config.is_optional => {}
            None => return Err(unregistered(&config.name, type_name(any)).within(&path)),
        }
    }
    let router = router.ok_or_else(|| ConfigError::at("http_filters", "the last filter must be the router"))?;
    Ok((filters, router))
}

/// `None`: no filter of this type is known.
fn filter(name: &str, any: &protobuf::Any, scope: &Scope) -> Result<Option<Arc<dyn HttpFilter>>, ConfigError> {
    Ok(Some(match () {
        () if is::<Buffer>(any) => Arc::new(buffer::config::filter(name, &unpack(any)?)),
        () if is::<Compressor>(any) => Arc::new(compressor::config::filter(name, &unpack(any)?, scope)?),
        () if is::<Cors>(any) => Arc::new(cors::config::filter(name, scope)),
        () if is::<CsrfPolicy>(any) => Arc::new(csrf::config::filter(name, &unpack(any)?, scope)?),
        () if is::<GrpcStats>(any) => Arc::new(grpc_stats::config::filter(name, &unpack(any)?)),
        () if is::<HealthCheck>(any) => Arc::new(health_check::config::filter(name, &unpack(any)?)?),
        () if is::<HeaderMutation>(any) => Arc::new(header_mutation::config::filter(name, &unpack(any)?)?),
        () if is::<SetMetadata>(any) => Arc::new(set_metadata::config::filter(name, &unpack(any)?)?),
        () if is::<Rbac>(any) => Arc::new(rbac::config::filter(name, &unpack(any)?, scope)?),
        () if is::<HttpFault>(any) => Arc::new(fault::config::filter(name, &unpack(any)?, scope)?),
        () if is::<LocalRateLimit>(any) => Arc::new(local_ratelimit::config::filter(name, &unpack(any)?)?),
        () if is::<Decompressor>(any) => Arc::new(decompressor::config::filter(name, &unpack(any)?, scope)?),
        () if is::<ExtAuthz>(any) => Arc::new(ext_authz::config::filter(name, &unpack(any)?, scope)?),
        () if is::<ForwardProxy>(any) => Arc::new(DynamicForwardProxy { name: name.to_owned() }),
        () if is::<AlpnConfig>(any) => Arc::new(alpn::config::filter(name, &unpack(any)?)?),
        () if is::<PeerMetadata>(any) => Arc::new(peer_metadata::config::filter(name, &unpack(any)?)),
        () if is::<PluginConfig>(any) => Arc::new(istio_stats::config::filter(name, &unpack(any)?)),
        () => return Ok(None),
    }))
}

/// What a route says to the filter of this name; `None`: nothing, and that is allowed.
///
/// # Errors
/// Settings that no filter takes, unless they are optional, or that are not supported.
pub fn route_settings(name: &str, any: &protobuf::Any) -> Result<Option<Arc<dyn StdAny + Send + Sync>>, ConfigError> {
    let any = &*opened(any)?;
    if is::<FilterConfig>(any) {
        let config: FilterConfig = unpack(any)?;
        return match &config.config {
            _ if config.disabled => Ok(Some(Arc::new(Disabled))),
            None => Ok(Some(Arc::new(Enabled))),
            Some(inner) => match route_settings(name, inner) {
                Err(_) if config.is_optional => Ok(None),
                settings => settings,
            },
        };
    }
    Ok(Some(match () {
        () if is::<BufferPerRoute>(any) => buffer::config::route(&unpack(any)?)?,
        () if is::<CompressorPerRoute>(any) => compressor::config::route(&unpack(any)?)?,
        () if is::<CorsPolicy>(any) => Arc::new(cors::config::policy(&unpack(any)?)?),
        () if is::<CsrfPolicy>(any) => Arc::new(csrf::config::policy(&unpack(any)?)?),
        () if is::<ExtAuthzPerRoute>(any) => ext_authz::config::route(&unpack(any)?)?,
        () if is::<HeaderMutationPerRoute>(any) => Arc::new(header_mutation::config::route(&unpack(any)?)?),
        () if is::<RbacPerRoute>(any) => Arc::new(rbac::config::route_rules(&unpack(any)?)?),
        () if is::<HttpFault>(any) => Arc::new(fault::config::settings(&unpack(any)?)?),
        () if is::<LocalRateLimit>(any) => Arc::new(local_ratelimit::config::settings(&unpack(any)?)?),
        () => return Err(unregistered(name, type_name(any))),
    }))
}

fn typed(config: &hcm::HttpFilter) -> Result<Cow<'_, protobuf::Any>, ConfigError> {
    match &config.config_type {
        Some(hcm::http_filter::ConfigType::TypedConfig(any)) => opened(any),
        Some(hcm::http_filter::ConfigType::ConfigDiscovery(_)) => {
            Err(ConfigError::at("config_discovery", "is not supported yet"))
        }
        None => Err(ConfigError::new(format!("{}: typed_config is required", config.name))),
    }
}

#[cfg(test)]
mod tests {
    use prost::{Message, Name};
    use protobuf::value::Kind;
    use xds::typed_struct::TypedStruct;

    use super::*;

    /// A filter as istiod sends it.
    fn sealed(message: &str, fields: &[(&str, Kind)]) -> hcm::HttpFilter {
        let fields = fields.iter().map(|(key, kind)| ((*key).to_owned(), protobuf::Value { kind: Some(kind.clone()) }));
        let sealed = TypedStruct {
            type_url: format!("type.googleapis.com/{message}"),
            value: Some(protobuf::Struct { fields: fields.collect() }),
        };
        let any = protobuf::Any {
            type_url: "type.googleapis.com/udpa.type.v1.TypedStruct".to_owned(),
            value: sealed.encode_to_vec(),
        };
        hcm::HttpFilter {
            name: "sealed".to_owned(),
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any)),
            ..Default::default()
        }
    }

    fn check(filter: hcm::HttpFilter, refused: Option<&str>) {
        let any = protobuf::Any { type_url: Router::type_url(), value: Vec::new() };
        let router = hcm::HttpFilter {
            name: "router".to_owned(),
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any)),
            ..Default::default()
        };
        let got = chain(&[filter, router], &Scope::http("sealed")).map(|(links, _)| links.len());
        assert_eq!(got.map_err(|e| e.to_string()), refused.map_or(Ok(1), |words| Err(words.to_owned())));
    }

    #[test]
    fn messages_in_structs() {
        let text = |text: &str| Kind::StringValue(text.to_owned());
        check(sealed("io.istio.http.peer_metadata.Config", &[]), None);
        check(sealed("io.istio.http.peer_metadata.Config", &[("newer", text("x"))]), None);
        let buffer = "envoy.extensions.filters.http.buffer.v3.Buffer";
        check(sealed(buffer, &[("max_request_bytes", Kind::NumberValue(5.0))]), None);
        let words = "http_filters[0]: max_request_bytes: a whole number is expected, not \"x\"";
        check(sealed(buffer, &[("max_request_bytes", text("x"))]), Some(words));
        check(sealed("no.such.Type", &[]), Some("http_filters[0]: message type no.such.Type is not known"));
    }
}
