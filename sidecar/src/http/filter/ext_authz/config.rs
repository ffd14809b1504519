//! `envoy.extensions.filters.http.ext_authz.v3.ExtAuthz` → [`ExtAuthz`] and a route's [`RouteSettings`].

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as pb;
use envoy_types::pb::envoy::r#type::matcher::v3::ListStringMatcher;
use http::header::{HeaderName, HeaderValue};
use pb::ext_authz::Services;
use pb::ext_authz_per_route::Override;

use super::body::BodyRules;
use super::grpc::Grpc;
use super::http_service::HttpService;
use super::question::{Protocol, Service, Visible};
use super::{ExtAuthz, RouteSettings, Stats};
use crate::config::{ConfigError, Within, bool_or, duration, each};
use crate::http::filter::Disabled;
use crate::matcher::config as matchers;
use crate::matcher::{Fraction, StringMatcher};
use crate::observe::stats::Scope;

const ALWAYS: Fraction = Fraction { numerator: 100, denominator: 100 };
/// Source: Envoy's `DefaultTimeout`.
const TIMEOUT: Duration = Duration::from_millis(200);

/// Compiles the filter. `scope` is the connection manager's.
///
/// # Errors
/// No service, or a field that is not supported.
pub fn filter(name: &str, config: &pb::ExtAuthz, scope: &Scope) -> Result<ExtAuthz, ConfigError> {
    supported(config)?;
    let service = match &config.services {
        Some(Services::GrpcService(grpc)) => grpc_service(grpc, config).within("grpc_service")?,
        Some(Services::HttpService(http)) => http_service(http, config).within("http_service")?,
        None => return Err(ConfigError::new("one of grpc_service, http_service is required")),
    };
    let enabled = config.filter_enabled_metadata.as_ref().map(matchers::metadata).transpose();
    let status = config.status_on_error.as_ref().and_then(|status| u16::try_from(status.code).ok());
    let deny = config.deny_at_disable.as_ref();
    Ok(ExtAuthz {
        name: name.to_owned(),
        service,
        enabled: config.filter_enabled.as_ref().map_or(ALWAYS, matchers::runtime_fraction),
        enabled_metadata: enabled.within("filter_enabled_metadata")?,
        deny_at_disable: deny.is_some_and(|flag| bool_or(flag.default_value.as_ref(), false)),
        failure_allows: config.failure_mode_allow,
        failure_told: config.failure_mode_allow_header_add,
        status_on_error: status.filter(|status| (200..600).contains(status)).unwrap_or(403),
        body: config.with_request_body.as_ref().map(body).transpose().within("with_request_body")?,
        clear_route_cache: config.clear_route_cache,
        takes_metadata: bool_or(config.enable_dynamic_metadata_ingestion.as_ref(), true),
        charges_cluster: bool_or(config.charge_cluster_response_stats.as_ref(), true),
        largest_denial: usize::try_from(config.max_denied_response_body_bytes).unwrap_or(usize::MAX),
        stats: stats(scope, &config.stat_prefix),
    })
}

fn stats(scope: &Scope, prefix: &str) -> Stats {
    let scope = match prefix {
        "" => scope.child("ext_authz"),
        prefix => scope.child("ext_authz").child(prefix.trim_end_matches('.')),
    };
    Stats {
        ok: scope.counter("ok"),
        denied: scope.counter("denied"),
        error: scope.counter("error"),
        disabled: scope.counter("disabled"),
        failure_allowed: scope.counter("failure_mode_allowed"),
        invalid: scope.counter("invalid"),
    }
}

fn supported(config: &pb::ExtAuthz) -> Result<(), ConfigError> {
    let unsupported = [
        ("decoder_header_mutation_rules", config.decoder_header_mutation_rules.is_some()),
        ("shadow_mode", config.shadow_mode),
        ("encode_raw_headers", config.encode_raw_headers),
        ("enforce_response_header_limits", config.enforce_response_header_limits),
        ("bootstrap_metadata_labels_key", !config.bootstrap_metadata_labels_key.is_empty()),
        ("typed_metadata_context_namespaces", !config.typed_metadata_context_namespaces.is_empty()),
        ("route_metadata_context_namespaces", !config.route_metadata_context_namespaces.is_empty()),
        ("route_typed_metadata_context_namespaces", !config.route_typed_metadata_context_namespaces.is_empty()),
    ];
    match unsupported.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(ConfigError::at(*field, "is not supported yet")),
        None => Ok(()),
    }
}

/// Compiles a route's settings.
///
/// # Errors
/// It says nothing, or a field is not supported.
pub fn route(config: &pb::ExtAuthzPerRoute) -> Result<Arc<dyn Any + Send + Sync>, ConfigError> {
    match &config.r#override {
        Some(Override::Disabled(true)) => Ok(Arc::new(Disabled)),
        Some(Override::CheckSettings(settings)) => Ok(Arc::new(check(settings).within("check_settings")?)),
        _ => Err(ConfigError::new("one of disabled, check_settings is required")),
    }
}

fn check(config: &pb::CheckSettings) -> Result<RouteSettings, ConfigError> {
    if config.service_override.is_some() {
        return Err(ConfigError::at("service_override", "is not supported yet"));
    }
    Ok(RouteSettings {
        extensions: config.context_extensions.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        no_body: config.disable_request_body_buffering,
        body: config.with_request_body.as_ref().map(body).transpose().within("with_request_body")?,
    })
}

fn body(config: &pb::BufferSettings) -> Result<BodyRules, ConfigError> {
    if config.max_request_bytes == 0 {
        return Err(ConfigError::at("max_request_bytes", "value must be greater than 0"));
    }
    let limit = usize::try_from(config.max_request_bytes).unwrap_or(usize::MAX);
    Ok(BodyRules { limit, partial: config.allow_partial_message, bytes: config.pack_as_bytes })
}

fn grpc_service(config: &core::GrpcService, filter: &pb::ExtAuthz) -> Result<Service, ConfigError> {
    use core::grpc_service::TargetSpecifier;
    let Some(TargetSpecifier::EnvoyGrpc(envoy)) = &config.target_specifier else {
        return Err(ConfigError::at("google_grpc", "is not supported: envoy_grpc is"));
    };
    if config.retry_policy.is_some() || envoy.retry_policy.is_some() {
        return Err(ConfigError::at("retry_policy", "is not supported yet"));
    }
    let authority = if envoy.authority.is_empty() { &envoy.cluster_name } else { &envoy.authority };
    let bad = |_| ConfigError::at("envoy_grpc.authority", "is no header value");
    Ok(Service {
        protocol: Protocol::Grpc(Grpc {
            authority: HeaderValue::from_str(authority).map_err(bad)?,
            metadata: each("initial_metadata", &config.initial_metadata, header)?,
            certificate: filter.include_peer_certificate,
            tls_session: filter.include_tls_session,
            namespaces: filter.metadata_context_namespaces.clone(),
        }),
        cluster: envoy.cluster_name.clone(),
        timeout: duration(config.timeout.as_ref()).filter(|d| !d.is_zero()).unwrap_or(TIMEOUT),
        visible: Visible {
            allowed: filter.allowed_headers.as_ref().map(matchers::strings).transpose().within("allowed_headers")?,
            disallowed: list(filter.disallowed_headers.as_ref(), "disallowed_headers")?,
        },
    })
}

fn header(config: &core::HeaderValue) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let name = HeaderName::try_from(&config.key).map_err(|_| ConfigError::at("key", "is no header name"))?;
    let value = if config.raw_value.is_empty() { config.value.as_bytes() } else { &config.raw_value };
    let value = HeaderValue::from_bytes(value).map_err(|_| ConfigError::at("value", "is no header value"))?;
    Ok((name, value))
}

fn list(config: Option<&ListStringMatcher>, field: &str) -> Result<Vec<StringMatcher>, ConfigError> {
    config.map_or_else(|| Ok(Vec::new()), matchers::strings).within(field)
}

fn exactly<const N: usize>(names: [&str; N]) -> impl Iterator<Item = StringMatcher> {
    names.map(|name| StringMatcher::Exact(name.to_owned())).into_iter()
}

fn http_service(config: &pb::HttpService, filter: &pb::ExtAuthz) -> Result<Service, ConfigError> {
    use core::http_uri::HttpUpstreamType;
    let uri = config.server_uri.as_ref().ok_or_else(|| ConfigError::at("server_uri", "value is required"))?;
    let Some(HttpUpstreamType::Cluster(cluster)) = &uri.http_upstream_type else {
        return Err(ConfigError::at("server_uri.cluster", "value is required"));
    };
    if config.retry_policy.is_some() {
        return Err(ConfigError::at("retry_policy", "is not supported yet"));
    }
    if !config.path_prefix.is_empty() && !config.path_prefix.starts_with('/') {
        return Err(ConfigError::at("path_prefix", "path_prefix should start with \"/\"."));
    }
    let asks = config.authorization_request.clone().unwrap_or_default();
    #[allow(deprecated)] // Where older configurations say which headers the service sees.
    let listed = filter.allowed_headers.as_ref().or(asks.allowed_headers.as_ref());
    let mut allowed = list(listed, "allowed_headers")?;
    allowed.extend(exactly(["authorization", ":method", ":path", ":authority"]));
    Ok(Service {
        protocol: Protocol::Http(Box::new(exchange_rules(config, &asks)?)),
        cluster: cluster.clone(),
        timeout: duration(uri.timeout.as_ref()).filter(|d| !d.is_zero()).unwrap_or(TIMEOUT),
        visible: Visible {
            allowed: Some(allowed),
            disallowed: list(filter.disallowed_headers.as_ref(), "disallowed_headers")?,
        },
    })
}

fn exchange_rules(config: &pb::HttpService, asks: &pb::AuthorizationRequest) -> Result<HttpService, ConfigError> {
    let answers = config.authorization_response.clone().unwrap_or_default();
    let to_client = answers.allowed_client_headers.as_ref().filter(|list| !list.patterns.is_empty());
    let to_client = to_client.map(|some| {
        let mut all = matchers::strings(some)?;
        all.extend(exactly(["www-authenticate", "location"]));
        Ok::<_, ConfigError>(all)
    });
    Ok(HttpService {
        path_prefix: config.path_prefix.clone(),
        path_override: Some(config.path_override.clone()).filter(|path| !path.is_empty()),
        add: each("authorization_request.headers_to_add", &asks.headers_to_add, header)?,
        to_upstream: list(answers.allowed_upstream_headers.as_ref(), "allowed_upstream_headers")?,
        to_upstream_joined: list(
            answers.allowed_upstream_headers_to_append.as_ref(),
            "allowed_upstream_headers_to_append",
        )?,
        to_client: to_client.transpose().within("allowed_client_headers")?,
        to_client_on_success: list(
            answers.allowed_client_headers_on_success.as_ref(),
            "allowed_client_headers_on_success",
        )?,
        to_metadata: list(answers.dynamic_metadata_from_headers.as_ref(), "dynamic_metadata_from_headers")?,
    })
}
