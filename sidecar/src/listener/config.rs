//! `Listener` → [`Listener`]; what is known to Envoy but not supported here is refused by its path.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;

use super::{FilterChain, Listener, ListenerStats};
use crate::config::{ConfigError, Within, address, limit, type_name, u32_or, unpack};
use crate::http::config::{Context, connection_manager};
use crate::observe::stats::Scope;
use crate::tls::SecretStore;
use crate::tls::config::TlsScope;

/// Compiles a listener.
///
/// # Errors
/// A field that Envoy refuses, or that is not supported.
pub fn listener(
    config: &pb::Listener,
    secrets: &SecretStore,
    cluster_exists: &dyn Fn(&str) -> bool,
) -> Result<Listener, ConfigError> {
    refuse_unsupported(config)?;
    let address = address(config.address.as_ref())
        .within("address")?
        .socket()
        .ok_or_else(|| ConfigError::at("address.pipe", "is not supported yet"))?;
    let stat_name = if config.stat_prefix.is_empty() { address.to_string() } else { config.stat_prefix.clone() };
    let scope = Scope::listener(&stat_name);
    let [chain] = config.filter_chains.as_slice() else {
        return Err(ConfigError::at("filter_chains", "exactly one filter chain is supported yet"));
    };
    let inbound = config.traffic_direction() == TrafficDirection::Inbound;
    let context = Context { inbound, own_address: own_address(), cluster_exists };
    Ok(Listener {
        name: if config.name.is_empty() { address.to_string() } else { config.name.clone() },
        address,
        backlog: i32::try_from(u32_or(config.tcp_backlog_size.as_ref(), 1024)).unwrap_or(i32::MAX),
        chain: filter_chain(chain, &context, TlsScope { stats: &scope, secrets }).within("filter_chains[0]")?,
        stats: ListenerStats {
            cx_total: scope.counter("downstream_cx_total"),
            cx_active: scope.gauge("downstream_cx_active"),
            cx_destroy: scope.counter("downstream_cx_destroy"),
            cx_transport_socket_connect_timeout: scope.counter("downstream_cx_transport_socket_connect_timeout"),
        },
    })
}

fn refuse_unsupported(config: &pb::Listener) -> Result<(), ConfigError> {
    let set = |flag: Option<&envoy_types::pb::google::protobuf::BoolValue>| flag.is_some_and(|v| v.value);
    let unsupported = [
        ("additional_addresses", !config.additional_addresses.is_empty()),
        ("default_filter_chain", config.default_filter_chain.is_some()),
        ("use_original_dst", set(config.use_original_dst.as_ref())),
        ("listener_filters", !config.listener_filters.is_empty()),
        ("bind_to_port", config.bind_to_port.as_ref().is_some_and(|v| !v.value)),
        ("access_log", !config.access_log.is_empty()),
        ("transparent", set(config.transparent.as_ref())),
        ("filter_chain_matcher", config.filter_chain_matcher.is_some()),
    ];
    match unsupported.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(ConfigError::at(*field, "is not supported yet")),
        None => Ok(()),
    }
}

fn filter_chain(
    config: &pb::FilterChain,
    context: &Context<'_>,
    tls: TlsScope<'_>,
) -> Result<FilterChain, ConfigError> {
    if config.filter_chain_match.as_ref().is_some_and(|m| *m != pb::FilterChainMatch::default()) {
        return Err(ConfigError::at("filter_chain_match", "is not supported yet"));
    }
    let [filter] = config.filters.as_slice() else {
        return Err(ConfigError::at("filters", "exactly one network filter is supported yet"));
    };
    let Some(pb::filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
        return Err(ConfigError::at("filters[0].typed_config", "value is required"));
    };
    if !crate::config::is::<HttpConnectionManager>(any) {
        return Err(ConfigError::at(
            "filters[0]",
            format!(
                "Didn't find a registered implementation for '{}' with type URL: '{}'",
                filter.name,
                type_name(any)
            ),
        ));
    }
    let manager: HttpConnectionManager = unpack(any).within("filters[0].typed_config")?;
    Ok(FilterChain {
        tls: crate::tls::config::downstream(config.transport_socket.as_ref(), tls).within("transport_socket")?,
        handshake_timeout: limit(config.transport_socket_connect_timeout.as_ref(), Some(Duration::from_secs(15))),
        manager: Arc::new(connection_manager(&manager, context).within("filters[0].typed_config")?),
    })
}

/// The address by which this host reaches others; nothing is sent to find it out.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // A documentation address (RFC 5737): connecting a UDP socket only chooses a route.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_unspecified())
}
