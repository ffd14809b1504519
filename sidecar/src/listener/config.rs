//! `Listener` → [`Listener`]; what is known to Envoy but not supported here is refused by its path.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{self as core, TrafficDirection};
use envoy_types::pb::envoy::config::listener::v3 as pb;
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol as ProxyProtocolConfig;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::direct_response::v3::Config as DirectResponse;
use envoy_types::pb::envoy::extensions::filters::network::echo::v3::Echo;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::mongo_proxy::v3::MongoProxy;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::google::protobuf::Any;

use xds::istio::metadata_exchange::MetadataExchange;
use xds::istio::stats::PluginConfig;

use super::filter_chain::{Match, SourceType};
use super::filter_disabled::Disabled;
use super::{FilterChain, Listener, ListenerFilters, ListenerStats, ProxyProtocol, Serves};
use crate::config::{
    ConfigError, Within, address, bool_or, each, is, limit, opened, type_name, u32_or, unpack, unregistered,
};
use crate::http::config::{Context, connection_manager};
use crate::matcher::config as matchers;
use crate::observe::stats::Scope;
use crate::tcp::{NetworkFilter, istio_stats, metadata_exchange};
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
    let inbound = config.traffic_direction() == TrafficDirection::Inbound;
    let outbound = config.traffic_direction() == TrafficDirection::Outbound;
    let context = Context {
        inbound,
        outbound,
        own_address: own_address(),
        buffer_limit: u32_or(config.per_connection_buffer_limit_bytes.as_ref(), 1 << 20) as usize,
        cluster_exists,
    };
    let tls = TlsScope { stats: &scope, secrets };
    for (i, chain) in config.filter_chains.iter().enumerate() {
        let wanted = chain.filter_chain_match.clone().unwrap_or_default();
        let same = |other: &pb::FilterChain| other.filter_chain_match.clone().unwrap_or_default() == wanted;
        if let Some(other) = config.filter_chains.iter().take(i).find(|other| same(other)) {
            return Err(ConfigError::at(
                format!("filter_chains[{i}].filter_chain_match"),
                format!(
                    "error adding listener '{address}': filter chain '{}' has the same matching rules defined as '{}'",
                    chain.name, other.name
                ),
            ));
        }
    }
    let chains = each("filter_chains", &config.filter_chains, |chain| filter_chain(chain, &context, tls))?;
    let default_chain = config.default_filter_chain.as_ref();
    let default_chain = default_chain.map(|chain| filter_chain(chain, &context, tls)).transpose();
    let default_chain = default_chain.within("default_filter_chain")?;
    if chains.is_empty() && default_chain.is_none() {
        return Err(ConfigError::new(format!("error adding listener '{address}': no filter chains specified")));
    }
    Ok(Listener {
        name: if config.name.is_empty() { address.to_string() } else { config.name.clone() },
        address,
        additional: each("additional_addresses", &config.additional_addresses, |additional| {
            let address = crate::config::address(additional.address.as_ref()).within("address")?;
            address.socket().ok_or_else(|| ConfigError::at("address.pipe", "is not supported yet"))
        })?,
        ipv4_compat: ipv4_compat(config),
        backlog: i32::try_from(u32_or(config.tcp_backlog_size.as_ref(), 1024)).unwrap_or(i32::MAX),
        binds: bool_or(config.bind_to_port.as_ref(), true),
        use_original_dst: bool_or(config.use_original_dst.as_ref(), false),
        filters: listener_filters(config)?,
        chains,
        default_chain,
        access_logs: each("access_log", &config.access_log, crate::observe::access_log::config::access_log)?,
        metadata: Arc::new(crate::config::metadata(config.metadata.as_ref())),
        stats: ListenerStats {
            cx_total: scope.counter("downstream_cx_total"),
            cx_active: scope.gauge("downstream_cx_active"),
            cx_destroy: scope.counter("downstream_cx_destroy"),
            cx_transport_socket_connect_timeout: scope.counter("downstream_cx_transport_socket_connect_timeout"),
            no_filter_chain_match: scope.counter("no_filter_chain_match"),
            pre_cx_timeout: scope.counter("downstream_pre_cx_timeout"),
        },
    })
}

fn ipv4_compat(config: &pb::Listener) -> Vec<SocketAddr> {
    let additional = config.additional_addresses.iter().map(|additional| additional.address.as_ref());
    let addresses = std::iter::once(config.address.as_ref()).chain(additional).flatten();
    let compatible = addresses.filter_map(|address| match &address.address {
        Some(core::address::Address::SocketAddress(socket)) if socket.ipv4_compat => Some(socket),
        _ => None,
    });
    compatible.filter_map(|socket| crate::config::socket_address(socket).ok()).collect()
}

fn refuse_unsupported(config: &pb::Listener) -> Result<(), ConfigError> {
    let unsupported = [
        ("transparent", bool_or(config.transparent.as_ref(), false)),
        ("filter_chain_matcher", config.filter_chain_matcher.is_some()),
    ];
    match unsupported.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(ConfigError::at(*field, "is not supported yet")),
        None => Ok(()),
    }
}

fn listener_filters(config: &pb::Listener) -> Result<ListenerFilters, ConfigError> {
    let mut filters = ListenerFilters {
        timeout: limit(config.listener_filters_timeout.as_ref(), Some(Duration::from_secs(15))),
        continue_on_timeout: config.continue_on_listener_filters_timeout,
        ..ListenerFilters::default()
    };
    for (i, filter) in config.listener_filters.iter().enumerate() {
        let path = format!("listener_filters[{i}]");
        let Some(pb::listener_filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
            return Err(ConfigError::at(path, "typed_config is required"));
        };
        let disabled = filter.filter_disabled.as_ref().map_or(Ok(Disabled::Never), disabled);
        let disabled = disabled.within("filter_disabled").within(&path)?;
        match () {
            () if is::<TlsInspector>(any) => filters.tls = Some(disabled),
            () if is::<HttpInspector>(any) => filters.http = Some(disabled),
            // Without it the connection would be for this proxy itself, which no rule here can mean.
            () if disabled != Disabled::Never => {
                return Err(ConfigError::at(format!("{path}.filter_disabled"), "is supported for inspectors only"));
            }
            () if is::<OriginalDst>(any) => filters.original_dst = true,
            () if is::<ProxyProtocolConfig>(any) => {
                let config: ProxyProtocolConfig = unpack(any).within(&path)?;
                let allow_without = config.allow_requests_without_proxy_protocol;
                filters.proxy_protocol = Some(ProxyProtocol { allow_without });
            }
            () => return Err(unregistered(&filter.name, type_name(any)).within(&path)),
        }
    }
    Ok(filters)
}

fn disabled(config: &pb::ListenerFilterChainMatchPredicate) -> Result<Disabled, ConfigError> {
    use pb::listener_filter_chain_match_predicate::{MatchSet, Rule};
    let set = |field: &str, set: &MatchSet| each(&format!("{field}.rules"), &set.rules, disabled);
    Ok(match &config.rule {
        Some(Rule::OrMatch(rules)) => Disabled::Any(set("or_match", rules)?),
        Some(Rule::AndMatch(rules)) => Disabled::All(set("and_match", rules)?),
        Some(Rule::NotMatch(rule)) => Disabled::Not(Box::new(disabled(rule).within("not_match")?)),
        Some(Rule::AnyMatch(any)) => {
            if *any {
                Disabled::Always
            } else {
                Disabled::Never
            }
        }
        Some(Rule::DestinationPortRange(range)) => {
            let port = |port: i32| {
                let message = format!("{port} is no port");
                u16::try_from(port).map_err(|_| ConfigError::at("destination_port_range", message))
            };
            Disabled::Ports(port(range.start)?..port(range.end)?)
        }
        None => return Err(ConfigError::at("rule", "value is required")),
    })
}

fn filter_chain(
    config: &pb::FilterChain,
    context: &Context<'_>,
    tls: TlsScope<'_>,
) -> Result<FilterChain, ConfigError> {
    let Some((last, before)) = config.filters.split_last() else {
        return Err(ConfigError::at("filters", "at least one network filter is required"));
    };
    let filters = each("filters", before, |filter| {
        let any = &*typed(filter)?;
        Ok(Some(match () {
            () if is::<Rbac>(any) => NetworkFilter::Rbac(crate::tcp::config::rbac(&unpack(any)?)?),
            () if is::<MetadataExchange>(any) => {
                NetworkFilter::MetadataExchange(Arc::new(metadata_exchange::config::filter(&unpack(any)?)?))
            }
            () if is::<PluginConfig>(any) => {
                NetworkFilter::IstioStats(istio_stats::config::filter(&filter.name, &unpack(any)?, context.inbound))
            }
            () if is::<MongoProxy>(any) => return only_observes(&unpack(any)?),
            () => return Err(unregistered(&filter.name, type_name(any))),
        }))
    })?;
    let path = format!("filters[{}]", before.len());
    let any = &*typed(last).within(&path)?;
    let serves = match () {
        () if is::<HttpConnectionManager>(any) => {
            let manager: HttpConnectionManager = unpack(any).within(&format!("{path}.typed_config"))?;
            let manager = connection_manager(&manager, context).within(&format!("{path}.typed_config"))?;
            Serves::Http(Arc::new(manager))
        }
        () if is::<TcpProxy>(any) => {
            let proxy: TcpProxy = unpack(any).within(&format!("{path}.typed_config"))?;
            Serves::Tcp(crate::tcp::config::tcp_proxy(&proxy).within(&format!("{path}.typed_config"))?)
        }
        () if is::<Echo>(any) => Serves::Echo,
        () if is::<DirectResponse>(any) => {
            let config: DirectResponse = unpack(any).within(&format!("{path}.typed_config"))?;
            let text = config.response.as_ref().map(crate::config::data_source).transpose();
            Serves::Direct(text.within(&format!("{path}.typed_config.response"))?.unwrap_or_default())
        }
        () => return Err(unregistered(&last.name, type_name(any)).within(&path)),
    };
    Ok(FilterChain {
        name: config.name.as_str().into(),
        matches: chain_match(config.filter_chain_match.as_ref()).within("filter_chain_match")?,
        tls: crate::tls::config::downstream(config.transport_socket.as_ref(), tls).within("transport_socket")?,
        handshake_timeout: limit(config.transport_socket_connect_timeout.as_ref(), Some(Duration::from_secs(15))),
        filters: filters.into_iter().flatten().collect(),
        serves,
    })
}

/// It counts what it sees of MongoDB's protocol, and may hold it up: the first is passed over.
fn only_observes(config: &MongoProxy) -> Result<Option<NetworkFilter>, ConfigError> {
    match &config.delay {
        Some(_) => Err(ConfigError::at("delay", "is not supported yet")),
        None => Ok(None),
    }
}

fn typed(filter: &pb::Filter) -> Result<Cow<'_, Any>, ConfigError> {
    match &filter.config_type {
        Some(pb::filter::ConfigType::TypedConfig(any)) => opened(any),
        Some(pb::filter::ConfigType::ConfigDiscovery(_)) => {
            Err(ConfigError::at("config_discovery", "is not supported yet"))
        }
        None => Err(ConfigError::at("typed_config", "value is required")),
    }
}

fn chain_match(config: Option<&pb::FilterChainMatch>) -> Result<Match, ConfigError> {
    use pb::filter_chain_match::ConnectionSourceType as Kind;
    let Some(config) = config else { return Ok(Match::default()) };
    let port =
        |field: &str, port: u32| u16::try_from(port).map_err(|_| ConfigError::at(field, format!("{port} is no port")));
    let server_names = each("server_names", &config.server_names, |name| match name.strip_prefix('*') {
        Some(suffix) if !suffix.starts_with('.') || suffix.contains('*') => Err(ConfigError::new(format!(
            "error adding listener: partial wildcards are not supported in \"server_names\": {name}"
        ))),
        _ => Ok(name.to_ascii_lowercase()),
    })?;
    Ok(Match {
        destination_port: config.destination_port.map(|p| port("destination_port", p.value)).transpose()?,
        destinations: each("prefix_ranges", &config.prefix_ranges, matchers::cidr)?,
        server_names,
        transport: config.transport_protocol.clone(),
        protocols: config.application_protocols.clone(),
        direct_sources: each("direct_source_prefix_ranges", &config.direct_source_prefix_ranges, matchers::cidr)?,
        source_type: match config.source_type() {
            Kind::Any => SourceType::Any,
            Kind::SameIpOrLoopback => SourceType::Same,
            Kind::External => SourceType::External,
        },
        sources: each("source_prefix_ranges", &config.source_prefix_ranges, matchers::cidr)?,
        source_ports: config.source_ports.iter().map(|p| port("source_ports", *p)).collect::<Result<_, _>>()?,
    })
}

/// The address by which this host reaches others; nothing is sent to find it out.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // A documentation address (RFC 5737): connecting a UDP socket only chooses a route.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_unspecified())
}
