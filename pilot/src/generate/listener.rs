//! Listeners.

use envoy_types::pb::envoy::config::core::v3::{TrafficDirection, TransportSocket};
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, filter, listener_filter,
};
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use envoy_types::pb::google::protobuf::{Any, Duration};

use super::{access_log, any, captured, http, rbac, tls, value};
use crate::ir::{
    self, Inbound, InboundProtocol, Mtls, OutboundHttp, OutboundTcp, Serving, TCP_ALPN, TcpAccess, Telemetry, Weighted,
};

pub(super) fn listener(made_from: &ir::Listener) -> Listener {
    let name = made_from.name();
    match made_from {
        ir::Listener::Inbound(listener) => inbound(&name, listener),
        ir::Listener::OutboundHttp(listener) => outbound_http(&name, listener),
        ir::Listener::OutboundTcp(listener) => outbound_tcp(&name, listener),
        ir::Listener::VirtualInbound(listener) => captured::inbound(&name, listener),
        ir::Listener::VirtualOutbound(listener) => captured::outbound(&name, listener),
        ir::Listener::Service(listener) => captured::service(&name, listener),
        ir::Listener::Api(listener) => http::api_listener(listener),
    }
}

fn inbound(name: &str, inbound: &Inbound) -> Listener {
    let (chains, filters) = serve(name, &inbound.serving);
    let detects = matches!(inbound.serving.protocol, InboundProtocol::Detected { .. });
    Listener {
        name: name.to_owned(),
        address: value::address(inbound.address),
        traffic_direction: TrafficDirection::Inbound.into(),
        listener_filters: filters,
        // A protocol in which the server speaks first gives nothing to be detected by.
        listener_filters_timeout: detects.then_some(Duration { seconds: 1, nanos: 0 }),
        continue_on_listener_filters_timeout: detects,
        filter_chains: chains,
        ..Default::default()
    }
}

/// The filter chains of a port, and the listener filters that they need.
pub(super) fn serve(name: &str, serving: &Serving) -> (Vec<FilterChain>, Vec<ListenerFilter>) {
    match &serving.protocol {
        InboundProtocol::Http { routes } => one_protocol(serving, &["h2", "http/1.1"], &http(name, serving, routes)),
        InboundProtocol::Tcp { access } => one_protocol(serving, &[], &tcp(serving, access)),
        InboundProtocol::Detected { routes, access } => {
            detected(serving, &http(name, serving, routes), &tcp(serving, access))
        }
    }
}

/// Which connections a filter chain is for; empty means any.
#[derive(Clone, Copy, Default)]
pub(super) struct Match<'a> {
    pub(super) transport: &'a str,
    pub(super) protocols: &'a [&'a str],
}

pub(super) fn chain(name: &str, wanted: Match<'_>, filters: &[Filter], socket: Option<TransportSocket>) -> FilterChain {
    let any = wanted.transport.is_empty() && wanted.protocols.is_empty();
    let wanted = FilterChainMatch {
        transport_protocol: wanted.transport.to_owned(),
        application_protocols: wanted.protocols.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    FilterChain {
        name: name.to_owned(),
        filter_chain_match: (!any).then_some(wanted),
        filters: filters.to_vec(),
        transport_socket: socket,
        ..Default::default()
    }
}

const TLS: Match<'_> = Match { transport: "tls", protocols: &[] };
const RAW: Match<'_> = Match { transport: "raw_buffer", protocols: &[] };
/// What the HTTP inspector calls HTTP.
pub(super) const HTTP: &[&str] = &["http/1.0", "http/1.1", "h2c"];

/// `alpn` is offered, not demanded.
fn one_protocol(serving: &Serving, alpn: &[&str], filters: &[Filter]) -> (Vec<FilterChain>, Vec<ListenerFilter>) {
    let mtls = |domains: &[String]| Some(tls::downstream(domains, alpn));
    match &serving.mtls {
        // What is no TLS is closed without a word, not answered with an alert.
        Mtls::Strict(domains) => (vec![chain("mtls", TLS, filters, mtls(domains))], vec![tls_inspector()]),
        Mtls::Permissive(domains) => (
            vec![chain("mtls", TLS, filters, mtls(domains)), chain("plaintext", RAW, filters, None)],
            vec![tls_inspector()],
        ),
        Mtls::Disabled => (vec![chain("plaintext", Match::default(), filters, None)], Vec::new()),
    }
}

/// Within mTLS callers that send bytes say so; in plaintext it is seen.
fn detected(serving: &Serving, http: &[Filter], tcp: &[Filter]) -> (Vec<FilterChain>, Vec<ListenerFilter>) {
    let mtls = |domains: &[String]| {
        let bytes = Match { protocols: &[TCP_ALPN], ..TLS };
        vec![
            chain("mtls-tcp", bytes, tcp, Some(tls::downstream(domains, &[TCP_ALPN]))),
            chain("mtls-http", TLS, http, Some(tls::downstream(domains, &["h2", "http/1.1"]))),
        ]
    };
    let plaintext = |wanted: Match<'static>| {
        vec![
            chain("plaintext-http", Match { protocols: HTTP, ..wanted }, http, None),
            chain("plaintext-tcp", wanted, tcp, None),
        ]
    };
    match &serving.mtls {
        Mtls::Strict(domains) => (mtls(domains), vec![tls_inspector()]),
        Mtls::Permissive(domains) => {
            (mtls(domains).into_iter().chain(plaintext(RAW)).collect(), vec![tls_inspector(), http_inspector()])
        }
        Mtls::Disabled => (plaintext(Match::default()), vec![http_inspector()]),
    }
}

fn http(name: &str, serving: &Serving, routes: &str) -> Vec<Filter> {
    vec![http_filter(any(&http::inbound(&format!("inbound_{name}"), routes, &serving.telemetry)))]
}

fn tcp(serving: &Serving, access: &TcpAccess) -> Vec<Filter> {
    let guard = rbac::network(access, "tcp.").map(|rbac| filter("envoy.filters.network.rbac", any(&rbac)));
    let cluster = Weighted { cluster: serving.cluster.clone(), weight: 1 };
    let proxy = tcp_proxy(&[cluster], &serving.cluster, &serving.telemetry);
    guard.into_iter().chain([proxy]).collect()
}

fn outbound_http(name: &str, outbound: &OutboundHttp) -> Listener {
    let manager = http::outbound(&format!("outbound_{name}"), &outbound.routes, &outbound.telemetry);
    Listener {
        name: name.to_owned(),
        address: value::address(outbound.address),
        traffic_direction: TrafficDirection::Outbound.into(),
        filter_chains: vec![FilterChain { filters: vec![http_filter(any(&manager))], ..Default::default() }],
        ..Default::default()
    }
}

fn outbound_tcp(name: &str, outbound: &OutboundTcp) -> Listener {
    let stat_prefix = outbound.clusters.first().map_or(name, |first| first.cluster.as_str());
    let proxy = tcp_proxy(&outbound.clusters, stat_prefix, &outbound.telemetry);
    Listener {
        name: name.to_owned(),
        address: value::address(outbound.address),
        traffic_direction: TrafficDirection::Outbound.into(),
        filter_chains: vec![FilterChain { filters: vec![proxy], ..Default::default() }],
        ..Default::default()
    }
}

pub(super) fn tcp_proxy(clusters: &[Weighted], stat_prefix: &str, telemetry: &Telemetry) -> Filter {
    let specifier = match clusters {
        [one] => tcp_proxy::ClusterSpecifier::Cluster(one.cluster.clone()),
        many => {
            let weighted = |one: &Weighted| tcp_proxy::weighted_cluster::ClusterWeight {
                name: one.cluster.clone(),
                weight: one.weight,
                ..Default::default()
            };
            let clusters = many.iter().map(weighted).collect();
            tcp_proxy::ClusterSpecifier::WeightedClusters(tcp_proxy::WeightedCluster { clusters })
        }
    };
    let proxy = TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        cluster_specifier: Some(specifier),
        access_log: access_log::access_logs(telemetry.access_log.as_ref()),
        ..Default::default()
    };
    filter("envoy.filters.network.tcp_proxy", any(&proxy))
}

pub(super) fn http_filter(config: Any) -> Filter {
    filter("envoy.filters.network.http_connection_manager", config)
}

fn filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

pub(super) fn http_inspector() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.http_inspector".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(&HttpInspector::default()))),
        ..Default::default()
    }
}

pub(super) fn tls_inspector() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(&TlsInspector::default()))),
        ..Default::default()
    }
}
