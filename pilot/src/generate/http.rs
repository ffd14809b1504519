//! The HTTP connection manager and its filters. What differs from Service to Service, and what guards, is in route tables,
//! which change without a connection being closed.

use envoy_types::pb::envoy::config::listener::v3::{ApiListener, Listener};
use envoy_types::pb::envoy::extensions::filters::http as filters;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier, SetCurrentClientCertDetails,
    UpgradeConfig,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_filter,
};
use envoy_types::pb::google::protobuf::Any;
use xds::istio::peer_metadata::{self, discovery_method, propagation_method};
use xds::istio::stats::PluginConfig;

use super::{access_log, any, cluster, tracing, value};
use crate::ir::{Api, Telemetry};

/// The filters whose settings route tables override.
pub(super) const RBAC: &str = "envoy.filters.http.rbac";
pub(super) const LOCAL_RATE_LIMIT: &str = "envoy.filters.http.local_ratelimit";
pub(super) const FAULT: &str = "envoy.filters.http.fault";

/// For callers of the workload: who they are is told to it, set fresh.
pub(super) fn inbound(stat_prefix: &str, routes: &str, telemetry: &Telemetry) -> HttpConnectionManager {
    let limit = filters::local_ratelimit::v3::LocalRateLimit {
        stat_prefix: "http_local_rate_limiter".to_owned(),
        ..Default::default()
    };
    let mut list = Vec::new();
    list.extend(telemetry.mesh_metrics.then(|| peer_metadata(Side::Inbound)));
    list.push(filter(RBAC, any(&filters::rbac::v3::Rbac::default())));
    list.push(filter(LOCAL_RATE_LIMIT, any(&limit)));
    list.extend(telemetry.mesh_metrics.then(stats));
    list.push(router());
    HttpConnectionManager {
        forward_client_cert_details: ForwardClientCertDetails::SanitizeSet.into(),
        set_current_client_cert_details: Some(SetCurrentClientCertDetails { uri: true, ..Default::default() }),
        ..manager(stat_prefix, routes, telemetry, list)
    }
}

/// For the workload's own calls to its proxy, which go where their host says.
pub(super) fn outbound(stat_prefix: &str, routes: &str, telemetry: &Telemetry) -> HttpConnectionManager {
    use filters::dynamic_forward_proxy::v3::{FilterConfig, filter_config};
    let forward = FilterConfig {
        implementation_specifier: Some(filter_config::ImplementationSpecifier::DnsCacheConfig(cluster::dns_cache())),
        ..Default::default()
    };
    let forward = filter("envoy.filters.http.dynamic_forward_proxy", any(&forward));
    manager(stat_prefix, routes, telemetry, outbound_filters(telemetry, Some(forward)))
}

/// For calls of a captured workload, which go where they were going.
pub(super) fn captured(stat_prefix: &str, routes: &str, telemetry: &Telemetry) -> HttpConnectionManager {
    manager(stat_prefix, routes, telemetry, outbound_filters(telemetry, None))
}

fn outbound_filters(telemetry: &Telemetry, forward: Option<HttpFilter>) -> Vec<HttpFilter> {
    let mut list = Vec::new();
    list.extend(telemetry.mesh_metrics.then(|| peer_metadata(Side::Outbound)));
    list.push(filter(FAULT, any(&filters::fault::v3::HttpFault::default())));
    list.extend(forward);
    list.extend(telemetry.mesh_metrics.then(stats));
    list.push(router());
    list
}

/// For clients without a proxy, which know only the filters that they are made with.
pub(super) fn api_listener(api: &Api) -> Listener {
    let rds = Rds { config_source: value::ads(), route_config_name: api.routes.clone() };
    let manager = HttpConnectionManager {
        stat_prefix: api.name.clone(),
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        http_filters: vec![filter(FAULT, any(&filters::fault::v3::HttpFault::default())), router()],
        ..Default::default()
    };
    Listener {
        name: api.name.clone(),
        api_listener: Some(ApiListener { api_listener: Some(any(&manager)) }),
        ..Default::default()
    }
}

fn manager(stat_prefix: &str, routes: &str, telemetry: &Telemetry, filters: Vec<HttpFilter>) -> HttpConnectionManager {
    let rds = Rds { config_source: value::ads(), route_config_name: routes.to_owned() };
    HttpConnectionManager {
        codec_type: CodecType::Auto.into(),
        stat_prefix: stat_prefix.to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(rds)),
        http_filters: filters,
        tracing: telemetry.tracing.as_ref().map(tracing::tracing),
        access_log: access_log::access_logs(telemetry.access_log.as_ref()),
        use_remote_address: value::flag(false),
        normalize_path: value::flag(true),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::KeepUnchanged.into(),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
        ..Default::default()
    }
}

fn router() -> HttpFilter {
    filter("envoy.filters.http.router", any(&filters::router::v3::Router::default()))
}

/// The mesh's standard metrics, in proxies that have them.
fn stats() -> HttpFilter {
    filter("istio.stats", any(&PluginConfig::default()))
}

#[derive(Clone, Copy)]
enum Side {
    Inbound,
    Outbound,
}

/// Who the other side is: by headers between proxies, and at the caller's side by what is known of the endpoint.
fn peer_metadata(side: Side) -> HttpFilter {
    let discover = || {
        let headers = discovery_method::MethodSpecifier::IstioHeaders(peer_metadata::IstioHeaders::default());
        vec![peer_metadata::DiscoveryMethod { method_specifier: Some(headers) }]
    };
    let propagate = || {
        let headers = peer_metadata::IstioHeaders { skip_external_clusters: true };
        let headers = propagation_method::MethodSpecifier::IstioHeaders(headers);
        vec![peer_metadata::PropagationMethod { method_specifier: Some(headers) }]
    };
    let config = match side {
        Side::Inbound => peer_metadata::Config {
            downstream_discovery: discover(),
            downstream_propagation: propagate(),
            ..Default::default()
        },
        Side::Outbound => peer_metadata::Config {
            upstream_discovery: discover(),
            upstream_propagation: propagate(),
            ..Default::default()
        },
    };
    filter("envoy.filters.http.peer_metadata", any(&config))
}

fn filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}
