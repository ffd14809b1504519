//! Listeners of captured workloads: `virtualInbound`, `virtualOutbound` and those of Services' addresses.
//!
//! Source: Istio's listeners of the same names. Only the first two are bound; the rest are chosen by the original destination.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3::{CidrRange, TrafficDirection};
use envoy_types::pb::envoy::config::listener::v3::{
    AdditionalAddress, Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter,
    ListenerFilterChainMatchPredicate, listener_filter, listener_filter_chain_match_predicate,
};
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::r#type::v3::Int32Range;
use envoy_types::pb::google::protobuf::Duration;

use super::listener::{HTTP, Match, chain, http_filter, http_inspector, serve, tcp_proxy};
use super::{any, http, value};
use crate::ir::{
    BLACK_HOLE, Families, InboundProtocol, ServiceAddress, Telemetry, VirtualInbound, VirtualOutbound, Weighted,
};

/// Where captured connections arrive. Source: Istio.
const OUTBOUND_PORT: u16 = 15001;
const INBOUND_PORT: u16 = 15006;

pub(super) fn inbound(name: &str, inbound: &VirtualInbound) -> Listener {
    let mut chains = vec![loop_guard(INBOUND_PORT, &inbound.others.telemetry)];
    let mut filters = vec![original_dst()];
    let mut opaque = Vec::new();
    for (port, serving) in &inbound.ports {
        let (of_port, needed) = serve(&format!("{port}"), serving);
        chains.extend(of_port.into_iter().map(|chain| at_port(chain, *port)));
        merge(&mut filters, needed);
        if matches!(serving.protocol, InboundProtocol::Tcp { .. }) {
            opaque.push(*port);
        }
    }
    let (rest, needed) = serve("any", &inbound.others);
    chains.extend(rest);
    merge(&mut filters, needed);
    for filter in filters.iter_mut().filter(|filter| filter.name.ends_with("http_inspector")) {
        filter.filter_disabled = any_port(&opaque);
    }
    Listener {
        name: name.to_owned(),
        address: value::address(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), INBOUND_PORT)),
        additional_addresses: additional(inbound.families, INBOUND_PORT),
        traffic_direction: TrafficDirection::Inbound.into(),
        listener_filters: filters,
        filter_chains: chains,
        ..detecting()
    }
}

/// Where a listener is besides IPv4.
fn additional(families: Families, port: u16) -> Vec<AdditionalAddress> {
    let six = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    match families {
        Families::V4 => Vec::new(),
        Families::Both => vec![AdditionalAddress { address: value::address(six), ..Default::default() }],
    }
}

/// Envoy refuses two filters of one name.
fn merge(filters: &mut Vec<ListenerFilter>, needed: Vec<ListenerFilter>) {
    for filter in needed {
        if !filters.iter().any(|known| known.name == filter.name) {
            filters.push(filter);
        }
    }
}

fn at_port(mut chain: FilterChain, port: u16) -> FilterChain {
    chain.name = format!("{port}-{}", chain.name);
    chain.filter_chain_match.get_or_insert_default().destination_port = value::number(port.into());
    chain
}

/// What is sent to the capturing port itself would come round again and again.
fn loop_guard(port: u16, telemetry: &Telemetry) -> FilterChain {
    at_port(chain("black-hole", Match::default(), &[tcp_to(BLACK_HOLE, telemetry)], None), port)
}

pub(super) fn outbound(name: &str, outbound: &VirtualOutbound) -> Listener {
    let mut chains = vec![loop_guard(OUTBOUND_PORT, &outbound.telemetry)];
    for peers in &outbound.peers {
        let filters = Filters {
            http: Some(http_to(&format!("outbound_{}", peers.name), &peers.routes, &outbound.telemetry)),
            tcp: Some(tcp_to(&peers.cluster, &outbound.telemetry)),
        };
        chains.extend(filters.chains(&peers.name, &peers.addresses));
    }
    let filters = Filters {
        http: Some(http_to("outbound_others", &outbound.routes, &outbound.telemetry)),
        tcp: Some(tcp_to(&outbound.cluster, &outbound.telemetry)),
    };
    chains.extend(filters.chains("others", &[]));
    // Envoy hands a connection over only after its filters have looked.
    let looks = ListenerFilter { filter_disabled: any_port(&outbound.opaque), ..http_inspector() };
    Listener {
        name: name.to_owned(),
        address: value::address(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), OUTBOUND_PORT)),
        additional_addresses: additional(outbound.families, OUTBOUND_PORT),
        use_original_dst: value::flag(true),
        listener_filters: vec![original_dst(), looks],
        filter_chains: chains,
        traffic_direction: TrafficDirection::Outbound.into(),
        ..detecting()
    }
}

pub(super) fn service(name: &str, service: &ServiceAddress) -> Listener {
    let routes = service.routes.as_ref();
    let stat_prefix = service.clusters.first().map_or(name, |first| first.cluster.as_str());
    let filters = Filters {
        http: routes.map(|routes| http_to(&format!("outbound_{name}"), routes, &service.telemetry)),
        tcp: (!service.clusters.is_empty()).then(|| tcp_proxy(&service.clusters, stat_prefix, &service.telemetry)),
    };
    let detects = filters.http.is_some() && filters.tcp.is_some();
    Listener {
        name: name.to_owned(),
        address: value::address(service.address),
        bind_to_port: value::flag(false),
        listener_filters: if detects { vec![http_inspector()] } else { Vec::new() },
        filter_chains: filters.chains("service", &[]),
        traffic_direction: TrafficDirection::Outbound.into(),
        ..if detects { detecting() } else { Listener::default() }
    }
}

/// What becomes of a connection, if it is HTTP and if it is not.
struct Filters {
    http: Option<Filter>,
    tcp: Option<Filter>,
}

impl Filters {
    fn chains(&self, name: &str, addresses: &[IpAddr]) -> Vec<FilterChain> {
        let to = |mut chain: FilterChain| {
            if !addresses.is_empty() {
                let ranges = addresses.iter().map(host).collect();
                let wanted = chain.filter_chain_match.take().unwrap_or_default();
                chain.filter_chain_match = Some(FilterChainMatch { prefix_ranges: ranges, ..wanted });
            }
            chain
        };
        let detected = Match { protocols: HTTP, ..Match::default() };
        let chains = match (&self.http, &self.tcp) {
            (Some(http), Some(tcp)) => vec![
                chain(&format!("{name}-http"), detected, std::slice::from_ref(http), None),
                chain(&format!("{name}-tcp"), Match::default(), std::slice::from_ref(tcp), None),
            ],
            (only, None) | (None, only) => {
                only.iter().map(|filter| chain(name, Match::default(), std::slice::from_ref(filter), None)).collect()
            }
        };
        chains.into_iter().map(to).collect()
    }
}

fn http_to(stat_prefix: &str, routes: &str, telemetry: &Telemetry) -> Filter {
    http_filter(any(&http::captured(stat_prefix, routes, telemetry)))
}

fn tcp_to(cluster: &str, telemetry: &Telemetry) -> Filter {
    tcp_proxy(&[Weighted { cluster: cluster.to_owned(), weight: 1 }], cluster, telemetry)
}

fn host(address: &IpAddr) -> CidrRange {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    CidrRange { address_prefix: address.to_string(), prefix_len: value::number(bits) }
}

/// A protocol in which the server speaks first gives nothing to be detected by.
fn detecting() -> Listener {
    Listener {
        listener_filters_timeout: Some(Duration { seconds: 1, nanos: 0 }),
        continue_on_listener_filters_timeout: true,
        ..Default::default()
    }
}

/// Connections to one of these ports.
fn any_port(ports: &[u16]) -> Option<ListenerFilterChainMatchPredicate> {
    use listener_filter_chain_match_predicate::{MatchSet, Rule};
    let at = |port: &u16| {
        let port = i32::from(*port);
        let rule = Rule::DestinationPortRange(Int32Range { start: port, end: port + 1 });
        ListenerFilterChainMatchPredicate { rule: Some(rule) }
    };
    let rule = match ports {
        [] => return None,
        [one] => return Some(at(one)),
        many => Rule::OrMatch(MatchSet { rules: many.iter().map(at).collect() }),
    };
    Some(ListenerFilterChainMatchPredicate { rule: Some(rule) })
}

fn original_dst() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.original_dst".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(&OriginalDst::default()))),
        ..Default::default()
    }
}
