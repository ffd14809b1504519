//! Listeners.

use envoy_types::pb::envoy::config::core::v3::{TrafficDirection, TransportSocket};
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, filter, listener_filter,
};
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use envoy_types::pb::google::protobuf::Any;

use super::{access_log, any, http, rbac, tls, value};
use crate::ir::{self, Inbound, InboundProtocol, Mtls, OutboundHttp, OutboundTcp, Telemetry, Weighted};

pub(super) fn listener(made_from: &ir::Listener) -> Listener {
    let name = made_from.name();
    match made_from {
        ir::Listener::Inbound(listener) => inbound(&name, listener),
        ir::Listener::OutboundHttp(listener) => outbound_http(&name, listener),
        ir::Listener::OutboundTcp(listener) => outbound_tcp(&name, listener),
    }
}

fn inbound(name: &str, inbound: &Inbound) -> Listener {
    let filters = || inbound_filters(name, inbound);
    let chain = |name: &str, transport: &str, socket: Option<TransportSocket>| FilterChain {
        name: name.to_owned(),
        filter_chain_match: (!transport.is_empty())
            .then(|| FilterChainMatch { transport_protocol: transport.to_owned(), ..Default::default() }),
        filters: filters(),
        transport_socket: socket,
        ..Default::default()
    };
    let mtls = |domains: &[String]| Some(tls::downstream(domains, &alpn(&inbound.protocol)));
    let (chains, inspect) = match &inbound.mtls {
        Mtls::Strict(domains) => (vec![chain("mtls", "", mtls(domains))], false),
        Mtls::Permissive(domains) => {
            (vec![chain("mtls", "tls", mtls(domains)), chain("plaintext", "raw_buffer", None)], true)
        }
        Mtls::Disabled => (vec![chain("plaintext", "", None)], false),
    };
    Listener {
        name: name.to_owned(),
        address: value::address(inbound.address),
        traffic_direction: TrafficDirection::Inbound.into(),
        listener_filters: inspect.then(tls_inspector).into_iter().collect(),
        filter_chains: chains,
        ..Default::default()
    }
}

/// Offered, not demanded.
fn alpn(protocol: &InboundProtocol) -> Vec<&'static str> {
    match protocol {
        InboundProtocol::Http { .. } => vec!["h2", "http/1.1"],
        InboundProtocol::Tcp { .. } => Vec::new(),
    }
}

fn inbound_filters(name: &str, inbound: &Inbound) -> Vec<Filter> {
    let stat_prefix = format!("inbound_{name}");
    match &inbound.protocol {
        InboundProtocol::Http { routes } => {
            vec![http_filter(any(&http::inbound(&stat_prefix, routes, &inbound.telemetry)))]
        }
        InboundProtocol::Tcp { access } => {
            let guard = rbac::network(access, "tcp.").map(|rbac| filter("envoy.filters.network.rbac", any(&rbac)));
            let cluster = Weighted { cluster: inbound.cluster.clone(), weight: 1 };
            let proxy = tcp_proxy(&[cluster], &inbound.cluster, &inbound.telemetry);
            guard.into_iter().chain([proxy]).collect()
        }
    }
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

fn tcp_proxy(clusters: &[Weighted], stat_prefix: &str, telemetry: &Telemetry) -> Filter {
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

fn http_filter(config: Any) -> Filter {
    filter("envoy.filters.network.http_connection_manager", config)
}

fn filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

fn tls_inspector() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(&TlsInspector::default()))),
        ..Default::default()
    }
}
