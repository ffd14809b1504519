//! `Cluster` and its endpoints → [`Cluster`] and [`Host`]s. What is known to Envoy but not supported here
//! is refused by its path.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as pb;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use prost::Message;
use xds::istio::metadata_exchange::MetadataExchange as MetadataExchangeConfig;

use super::dns::config::{dns, dns_extension};
use super::health_check::config::health_check;
use super::hosts::{HostCheck, Spread};
use super::outlier::OutlierStats;
use super::outlier::config::outlier_rules;
use super::{
    CircuitBreakers, Cluster, ClusterStats, Discovery, ForwardProxy, Health, Host, LbPolicy, Locality, OriginalDst,
    Outlier, RingHashFunction, Thresholds, TransportSocketMatch, UpstreamProtocol,
};
use crate::config::{
    ConfigError, Within, address, duration, each, is, limit, metadata, opened, socket_address, type_name, u32_or,
    unpack, unregistered,
};
use crate::http::config::{header_case, keepalive, window};
use crate::net::Address;
use crate::observe::stats::Scope;
use crate::tcp::{MetadataExchange, metadata_exchange};
use crate::tls::SecretStore;
use crate::tls::config::TlsScope;
use crate::upstream::connect::{Keepalive, SocketOptions};
use crate::upstream::pool::{Http2Options, PoolOptions, Speaks};
use crate::upstream::resolve::Family;

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Compiles a cluster for `workers` workers.
///
/// # Errors
/// A field that Envoy refuses, or that is not supported.
pub fn cluster(config: &pb::Cluster, secrets: &SecretStore, workers: usize) -> Result<Cluster, ConfigError> {
    refuse_unsupported(config)?;
    let discovery = discovery(config)?;
    let stat_name = if config.alt_stat_name.is_empty() { &config.name } else { &config.alt_stat_name };
    let scope = Scope::cluster(stat_name);
    let tls = crate::tls::config::upstream(config.transport_socket.as_ref(), TlsScope { stats: &scope, secrets })
        .within("transport_socket")?;
    let tls_matches = each("transport_socket_matches", &config.transport_socket_matches, |m| {
        let scope = TlsScope { stats: &scope, secrets };
        Ok(TransportSocketMatch {
            criteria: match m.r#match.as_ref().map(crate::config::structure) {
                Some(serde_json::Value::Object(criteria)) => criteria,
                _ => Default::default(),
            },
            tls: crate::tls::config::upstream(m.transport_socket.as_ref(), scope).within("transport_socket")?,
        })
    })?;
    if config.lb_policy() == pb::cluster::LbPolicy::ClusterProvided
        && !matches!(discovery, Discovery::OriginalDst(_) | Discovery::ForwardProxy(_))
    {
        let why = format!("cluster: LB policy CLUSTER_PROVIDED is not valid for cluster '{}'", config.name);
        return Err(ConfigError::at("lb_policy", why));
    }
    let (protocol, pool) = http_options(config)?;
    let outlier = config.outlier_detection.as_ref().map(|outlier| Outlier {
        rules: outlier_rules(outlier),
        stats: OutlierStats::new(&scope),
        told: OnceLock::new(),
    });
    Ok(Cluster {
        name: config.name.as_str().into(),
        discovery,
        stat_name: stat_name.clone(),
        connect_timeout: duration(config.connect_timeout.as_ref()).unwrap_or(Duration::from_secs(5)),
        lb_policy: lb_policy(config)?,
        protocol,
        pool,
        socket: socket_options(config)?,
        tls,
        tls_matches,
        exchanges: each("filters", &config.filters, exchange)?,
        metadata: Arc::new(metadata(config.metadata.as_ref())),
        breakers: CircuitBreakers::new(thresholds(config), workers),
        stats: Arc::new(ClusterStats::new(stat_name)),
        spread: spread(config),
        subsets: config
            .lb_subset_config
            .as_ref()
            .map(|subsets| super::subset::config::subsets(subsets, &scope))
            .transpose()
            .within("lb_subset_config")?,
        health_checks: each("health_checks", &config.health_checks, health_check)?,
        outlier,
        buffer_limit: u32_or(config.per_connection_buffer_limit_bytes.as_ref(), 1 << 20) as usize,
    })
}

fn refuse_unsupported(config: &pb::Cluster) -> Result<(), ConfigError> {
    match config.load_balancing_policy {
        Some(_) => Err(ConfigError::at("load_balancing_policy", "is not supported yet")),
        None => Ok(()),
    }
}

fn exchange(filter: &pb::Filter) -> Result<Arc<MetadataExchange>, ConfigError> {
    if filter.config_discovery.is_some() {
        return Err(ConfigError::at("config_discovery", "is not supported yet"));
    }
    let any = filter.typed_config.as_ref().ok_or_else(|| ConfigError::at("typed_config", "value is required"))?;
    let any = &*opened(any).within("typed_config")?;
    if !is::<MetadataExchangeConfig>(any) {
        return Err(unregistered(&filter.name, type_name(any)));
    }
    let compiled = unpack(any).and_then(|config| metadata_exchange::config::filter(&config));
    compiled.map(Arc::new).within("typed_config")
}

fn discovery(config: &pb::Cluster) -> Result<Discovery, ConfigError> {
    use pb::cluster::{ClusterDiscoveryType, DiscoveryType};
    let kind = match &config.cluster_discovery_type {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(*kind).unwrap_or(DiscoveryType::Static),
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return custom_type(config, custom).within("cluster_type");
        }
    };
    match kind {
        DiscoveryType::Static => Ok(Discovery::Static),
        DiscoveryType::Eds => {
            let eds = config.eds_cluster_config.as_ref();
            let eds = eds.ok_or_else(|| ConfigError::at("eds_cluster_config", "value is required"))?;
            let name = if eds.service_name.is_empty() { &config.name } else { &eds.service_name };
            let source = eds.eds_config.as_ref().map(Message::encode_to_vec);
            Ok(Discovery::Eds { service_name: name.clone(), source })
        }
        DiscoveryType::OriginalDst => Ok(Discovery::OriginalDst(original_dst(config))),
        DiscoveryType::StrictDns => dns(config, false).map(Discovery::Dns),
        DiscoveryType::LogicalDns => dns(config, true).map(Discovery::Dns),
    }
}

fn custom_type(config: &pb::Cluster, custom: &pb::cluster::CustomClusterType) -> Result<Discovery, ConfigError> {
    use envoy_types::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
    match &custom.typed_config {
        Some(any) if crate::config::is::<DnsCluster>(any) => dns_extension(config, any).map(Discovery::Dns),
        _ => forward_proxy(custom).map(Discovery::ForwardProxy),
    }
}

fn forward_proxy(config: &pb::cluster::CustomClusterType) -> Result<ForwardProxy, ConfigError> {
    use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3 as forward;
    let any = config.typed_config.as_ref().ok_or_else(|| ConfigError::at("typed_config", "value is required"))?;
    if !crate::config::is::<forward::ClusterConfig>(any) {
        let kind = crate::config::type_name(any);
        let name = &config.name;
        return Err(ConfigError::new(format!(
            "Didn't find a registered cluster factory implementation for name: '{name}', type: '{kind}'"
        )));
    }
    let typed: forward::ClusterConfig = unpack(any).within("typed_config")?;
    use forward::cluster_config::ClusterImplementationSpecifier as Kind;
    match typed.cluster_implementation_specifier {
        Some(Kind::DnsCacheConfig(cache)) => Ok(ForwardProxy {
            family: family(cache.dns_lookup_family()),
            refresh: duration(cache.dns_refresh_rate.as_ref()).unwrap_or(Duration::from_secs(60)),
        }),
        Some(Kind::SubClustersConfig(_)) => Err(ConfigError::at("sub_clusters_config", "is not supported")),
        None => Err(ConfigError::at("dns_cache_config", "value is required")),
    }
}

/// Which addresses a name stands for.
pub fn family(config: pb::cluster::DnsLookupFamily) -> Family {
    use pb::cluster::DnsLookupFamily as Kind;
    match config {
        Kind::Auto => Family::V6Preferred,
        Kind::V4Only => Family::V4Only,
        Kind::V6Only => Family::V6Only,
        Kind::V4Preferred => Family::V4Preferred,
        Kind::All => Family::All,
    }
}

fn original_dst(config: &pb::Cluster) -> OriginalDst {
    match &config.lb_config {
        Some(pb::cluster::LbConfig::OriginalDstLbConfig(lb)) => OriginalDst {
            header: lb.use_http_header.then(|| match lb.http_header_name.as_str() {
                "" => "x-envoy-original-dst-host".to_owned(),
                name => name.to_ascii_lowercase(),
            }),
            port: lb.upstream_port_override.as_ref().and_then(|p| u16::try_from(p.value).ok()),
        },
        _ => OriginalDst::default(),
    }
}

fn lb_policy(config: &pb::Cluster) -> Result<LbPolicy, ConfigError> {
    use pb::cluster::{LbConfig, LbPolicy as Kind};
    match config.lb_policy() {
        Kind::RoundRobin => Ok(LbPolicy::RoundRobin),
        Kind::Random => Ok(LbPolicy::Random),
        Kind::LeastRequest => {
            let choices = match &config.lb_config {
                Some(LbConfig::LeastRequestLbConfig(least)) => u32_or(least.choice_count.as_ref(), 2),
                _ => 2,
            };
            Ok(LbPolicy::LeastRequest { choices: choices.max(2) })
        }
        Kind::RingHash => match &config.lb_config {
            Some(LbConfig::RingHashLbConfig(ring)) => Ok(LbPolicy::RingHash {
                minimum: ring.minimum_ring_size.as_ref().map_or(1024, |v| v.value),
                maximum: ring.maximum_ring_size.as_ref().map_or(8 << 20, |v| v.value),
                hash: match ring.hash_function() {
                    pb::cluster::ring_hash_lb_config::HashFunction::XxHash => RingHashFunction::XxHash,
                    pb::cluster::ring_hash_lb_config::HashFunction::MurmurHash2 => RingHashFunction::MurmurHash2,
                },
                by_hostname: by_hostname(config),
            }),
            _ => Ok(LbPolicy::RingHash {
                minimum: 1024,
                maximum: 8 << 20,
                hash: RingHashFunction::XxHash,
                by_hostname: by_hostname(config),
            }),
        },
        Kind::Maglev => match &config.lb_config {
            Some(LbConfig::MaglevLbConfig(maglev)) => Ok(LbPolicy::Maglev {
                size: maglev.table_size.as_ref().map_or(65_537, |v| v.value),
                by_hostname: by_hostname(config),
            }),
            _ => Ok(LbPolicy::Maglev { size: 65_537, by_hostname: by_hostname(config) }),
        },
        // The cluster makes its hosts itself: there is nothing to choose from.
        Kind::ClusterProvided => Ok(LbPolicy::RoundRobin),
        other => Err(ConfigError::at("lb_policy", format!("{} is not supported yet", other.as_str_name()))),
    }
}

fn by_hostname(config: &pb::Cluster) -> bool {
    let common = config.common_lb_config.as_ref().and_then(|c| c.consistent_hashing_lb_config);
    common.is_some_and(|hashing| hashing.use_hostname_for_hashing)
}

fn spread(config: &pb::Cluster) -> Spread {
    use pb::cluster::common_lb_config::LocalityConfigSpecifier as Locality;
    let defaults = Spread::default();
    let Some(common) = &config.common_lb_config else { return defaults };
    Spread {
        panic_threshold: common.healthy_panic_threshold.as_ref().map_or(defaults.panic_threshold, |p| p.value),
        fail_on_panic: match &common.locality_config_specifier {
            Some(Locality::ZoneAwareLbConfig(zones)) => zones.fail_traffic_on_panic,
            _ => false,
        },
        weigh_localities: matches!(&common.locality_config_specifier, Some(Locality::LocalityWeightedLbConfig(_))),
        overprovisioning: defaults.overprovisioning,
    }
}

fn thresholds(config: &pb::Cluster) -> [Thresholds; 2] {
    let breakers = config.circuit_breakers.clone().unwrap_or_default();
    [core::RoutingPriority::Default, core::RoutingPriority::High].map(|priority| {
        let defaults = Thresholds::default();
        let Some(t) = breakers.thresholds.iter().find(|t| t.priority() == priority) else { return defaults };
        Thresholds {
            max_connections: u32_or(t.max_connections.as_ref(), defaults.max_connections),
            max_pending_requests: u32_or(t.max_pending_requests.as_ref(), defaults.max_pending_requests),
            max_requests: u32_or(t.max_requests.as_ref(), defaults.max_requests),
            max_retries: u32_or(t.max_retries.as_ref(), defaults.max_retries),
            retry_budget: t.retry_budget.as_ref().map(|budget| {
                let percent = budget.budget_percent.as_ref().map_or(20.0, |p| p.value);
                (percent, u32_or(budget.min_retry_concurrency.as_ref(), 3))
            }),
        }
    })
}

fn socket_options(config: &pb::Cluster) -> Result<SocketOptions, ConfigError> {
    let bind = |config: &core::BindConfig| -> Result<Vec<SocketAddr>, ConfigError> {
        let first = config.source_address.as_ref().map(socket_address).transpose().within("source_address")?;
        let extra = each("extra_source_addresses", &config.extra_source_addresses, |extra| {
            extra.address.as_ref().map(socket_address).transpose().within("address")
        })?;
        Ok(first.into_iter().chain(extra.into_iter().flatten()).collect())
    };
    let bind = config.upstream_bind_config.as_ref().map(bind).transpose().within("upstream_bind_config")?;
    let keepalive = config.upstream_connection_options.as_ref().and_then(|o| o.tcp_keepalive.as_ref());
    let seconds =
        |v: Option<&envoy_types::pb::google::protobuf::UInt32Value>| v.map(|v| Duration::from_secs(u64::from(v.value)));
    Ok(SocketOptions {
        bind: bind.unwrap_or_default(),
        keepalive: keepalive.map(|k| Keepalive {
            probes: k.keepalive_probes.as_ref().map(|v| v.value),
            time: seconds(k.keepalive_time.as_ref()),
            interval: seconds(k.keepalive_interval.as_ref()),
        }),
    })
}

#[allow(deprecated)] // Older bootstraps have the protocol's options in the cluster itself.
fn http_options(config: &pb::Cluster) -> Result<(UpstreamProtocol, PoolOptions), ConfigError> {
    use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options as options;
    use options::UpstreamProtocolOptions as Choice;
    use options::explicit_http_config::ProtocolConfig as Explicit;
    let mut pool = PoolOptions {
        max_requests_per_connection: u64::from(u32_or(config.max_requests_per_connection.as_ref(), 0)),
        ..PoolOptions::default()
    };
    let fixed = |speaks| UpstreamProtocol::Fixed(speaks);
    let Some(any) = config.typed_extension_protocol_options.get(HTTP_OPTIONS) else {
        if let Some(http1) = &config.http_protocol_options {
            http1_options(&mut pool, Some(http1))?;
        }
        common(&mut pool, config.common_http_protocol_options.as_ref());
        return Ok(match &config.http2_protocol_options {
            Some(http2) => {
                pool.http2 = http2_options(Some(http2))?;
                (fixed(Speaks::Http2), pool)
            }
            None => (fixed(Speaks::Http1), pool),
        });
    };
    let typed: HttpProtocolOptions = unpack(any).within("typed_extension_protocol_options")?;
    common(&mut pool, typed.common_http_protocol_options.as_ref());
    if typed.common_http_protocol_options.as_ref().is_some_and(|c| c.max_stream_duration.is_some()) {
        return Err(ConfigError::at("common_http_protocol_options.max_stream_duration", "is not supported yet"));
    }
    let protocol = match &typed.upstream_protocol_options {
        Some(Choice::ExplicitHttpConfig(explicit)) => match &explicit.protocol_config {
            Some(Explicit::HttpProtocolOptions(http1)) => {
                http1_options(&mut pool, Some(http1))?;
                fixed(Speaks::Http1)
            }
            Some(Explicit::Http2ProtocolOptions(http2)) => {
                pool.http2 = http2_options(Some(http2))?;
                fixed(Speaks::Http2)
            }
            _ => return Err(ConfigError::at("explicit_http_config", "HTTP/3 is not supported")),
        },
        Some(Choice::UseDownstreamProtocolConfig(both)) => {
            http1_options(&mut pool, both.http_protocol_options.as_ref())?;
            pool.http2 = http2_options(both.http2_protocol_options.as_ref())?;
            UpstreamProtocol::AsDownstream
        }
        Some(Choice::AutoConfig(both)) => {
            http1_options(&mut pool, both.http_protocol_options.as_ref())?;
            pool.http2 = http2_options(both.http2_protocol_options.as_ref())?;
            fixed(Speaks::Negotiated)
        }
        None => return Err(ConfigError::at(HTTP_OPTIONS, "upstream_protocol_options is required")),
    };
    Ok((protocol, pool))
}

fn common(pool: &mut PoolOptions, options: Option<&core::HttpProtocolOptions>) {
    let Some(options) = options else { return };
    pool.idle_timeout = limit(options.idle_timeout.as_ref(), pool.idle_timeout);
    pool.max_connection_duration = limit(options.max_connection_duration.as_ref(), None);
    if let Some(limit) = &options.max_requests_per_connection {
        pool.max_requests_per_connection = u64::from(limit.value);
    }
    pool.max_response_headers_count = u32_or(options.max_headers_count.as_ref(), 100) as usize;
    if let Some(kb) = &options.max_response_headers_kb {
        pool.max_response_headers_kb = kb.value.max(1);
    }
}

fn http1_options(pool: &mut PoolOptions, options: Option<&core::Http1ProtocolOptions>) -> Result<(), ConfigError> {
    if let Some(options) = options {
        (pool.title_case_headers, pool.preserve_case) = header_case(options)?;
    }
    Ok(())
}

fn http2_options(options: Option<&core::Http2ProtocolOptions>) -> Result<Http2Options, ConfigError> {
    let defaults = Http2Options::default();
    let Some(o) = options else { return Ok(defaults) };
    let stream = o.initial_stream_window_size.as_ref().map(|v| v.value);
    let connection = o.initial_connection_window_size.as_ref().map(|v| v.value);
    Ok(Http2Options {
        initial_stream_window: window("initial_stream_window_size", stream, defaults.initial_stream_window)?,
        initial_connection_window: window(
            "initial_connection_window_size",
            connection,
            defaults.initial_connection_window,
        )?,
        max_concurrent_streams: o.max_concurrent_streams.as_ref().map(|v| v.value),
        keepalive: keepalive(o.connection_keepalive.as_ref()),
    })
}

/// Reads all endpoints of an assignment.
///
/// # Errors
/// An address that is no IP address.
pub fn endpoints(config: &endpoint::ClusterLoadAssignment) -> Result<Vec<Host>, ConfigError> {
    let localities = each("endpoints", &config.endpoints, |locality| {
        each("lb_endpoints", &locality.lb_endpoints, |e| one_endpoint(e, locality))
    })?;
    Ok(localities.into_iter().flatten().collect())
}

fn one_endpoint(config: &endpoint::LbEndpoint, locality: &endpoint::LocalityLbEndpoints) -> Result<Host, ConfigError> {
    use endpoint::lb_endpoint::HostIdentifier;
    let Some(HostIdentifier::Endpoint(e)) = &config.host_identifier else {
        return Err(ConfigError::at("endpoint", "value is required"));
    };
    host_of(config, e, locality, address(e.address.as_ref()).within("endpoint.address")?)
}

/// A host with all that its endpoint and its locality say.
///
/// # Errors
/// An address for its health checks that is none.
pub fn host_of(
    config: &endpoint::LbEndpoint,
    e: &endpoint::Endpoint,
    locality: &endpoint::LocalityLbEndpoints,
    at: Address,
) -> Result<Host, ConfigError> {
    let health = match config.health_status() {
        core::HealthStatus::Unknown | core::HealthStatus::Healthy => Health::Healthy,
        core::HealthStatus::Degraded => Health::Degraded,
        _ => Health::Unhealthy,
    };
    let place = locality.locality.clone().unwrap_or_default();
    let check = e.health_check_config.clone().unwrap_or_default();
    Ok(Host {
        hostname: e.hostname.as_str().into(),
        weight: u32_or(config.load_balancing_weight.as_ref(), 1).max(1),
        priority: locality.priority,
        configured: health,
        health,
        locality: Arc::new(Locality {
            region: place.region,
            zone: place.zone,
            sub_zone: place.sub_zone,
            weight: u32_or(locality.load_balancing_weight.as_ref(), 0),
        }),
        check: Arc::new(HostCheck {
            port: u16::try_from(check.port_value).ok().filter(|port| *port != 0),
            address: check
                .address
                .as_ref()
                .map(|a| address(Some(a)))
                .transpose()
                .within("endpoint.health_check_config.address")?,
            hostname: check.hostname.as_str().into(),
            disabled: check.disable_active_health_check,
        }),
        metadata: Arc::new(metadata(config.metadata.as_ref())),
        ..Host::at(at)
    })
}
