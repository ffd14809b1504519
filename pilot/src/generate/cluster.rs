//! Clusters.

use std::collections::HashMap;
use std::net::IpAddr;

use api::traffic_policy::{LbPolicy, OutlierDetection as Outlier};
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    self, ClusterDiscoveryType, CustomClusterType, DiscoveryType, DnsLookupFamily, EdsClusterConfig,
    TransportSocketMatch,
};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster, OutlierDetection, circuit_breakers};
use envoy_types::pb::envoy::config::core::v3::{
    Address, BindConfig, ExtraSourceAddress, Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as Common,
};
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints};
use envoy_types::pb::envoy::extensions::clusters::dynamic_forward_proxy::v3::{ClusterConfig, cluster_config};
use envoy_types::pb::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig, explicit_http_config,
};
use envoy_types::pb::google::protobuf::{Any, Struct};

use super::{any, endpoint, tls, value};
use crate::ir::{self, Discovery, Protocol, Secured};

pub(super) fn cluster(made_from: &ir::Cluster) -> Cluster {
    let mut cluster = Cluster {
        name: made_from.name.clone(),
        connect_timeout: value::duration(made_from.connect_timeout),
        lb_policy: lb_policy(made_from.lb_policy).into(),
        circuit_breakers: Some(circuit_breakers(made_from)),
        outlier_detection: made_from.outlier_detection.as_ref().map(outlier_detection),
        typed_extension_protocol_options: protocol_options(made_from),
        ..Default::default()
    };
    if let Some(tls) = &made_from.tls {
        match tls.secured {
            Secured::Marked => cluster.transport_socket_matches = socket_matches(tls),
            Secured::All | Secured::AllByProvider => cluster.transport_socket = Some(tls::upstream(tls)),
        }
    }
    cluster.upstream_bind_config = bind_config(&made_from.source);
    discover(made_from, &mut cluster);
    cluster
}

fn bind_config(sources: &[IpAddr]) -> Option<BindConfig> {
    let (first, others) = sources.split_first()?;
    let extra =
        |source: &IpAddr| ExtraSourceAddress { address: Some(value::socket_address(*source, 0)), ..Default::default() };
    Some(BindConfig {
        source_address: Some(value::socket_address(*first, 0)),
        extra_source_addresses: others.iter().map(extra).collect(),
        ..Default::default()
    })
}

fn discover(made_from: &ir::Cluster, cluster: &mut Cluster) {
    let (kind, address) = match &made_from.discovery {
        Discovery::Eds(name) => {
            let service_name = if *name == made_from.name { String::new() } else { name.clone() };
            let eds = EdsClusterConfig { eds_config: value::ads(), service_name };
            cluster.eds_cluster_config = Some(eds);
            (DiscoveryType::Eds, None)
        }
        Discovery::Static(address) => (DiscoveryType::Static, value::address(*address)),
        Discovery::Nowhere => (DiscoveryType::Static, None),
        Discovery::OriginalDst => {
            cluster.lb_policy = cluster::LbPolicy::ClusterProvided.into();
            (DiscoveryType::OriginalDst, None)
        }
        Discovery::Dns { host, port } => {
            cluster.dns_lookup_family = DnsLookupFamily::V4Preferred.into();
            (DiscoveryType::StrictDns, value::host_port(host, *port))
        }
        Discovery::DynamicForward => {
            cluster.lb_policy = cluster::LbPolicy::ClusterProvided.into();
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(dynamic_forward()));
            return;
        }
    };
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
    cluster.load_assignment = address.map(|address| assignment(&made_from.name, address));
}

fn assignment(cluster: &str, address: Address) -> ClusterLoadAssignment {
    let lb_endpoints = vec![endpoint::plain(Some(address))];
    let endpoints = vec![LocalityLbEndpoints { lb_endpoints, ..Default::default() }];
    ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints, ..Default::default() }
}

fn dynamic_forward() -> CustomClusterType {
    let specifier = cluster_config::ClusterImplementationSpecifier::DnsCacheConfig(dns_cache());
    // What Envoy calls insecure is TLS without a check of the name; these calls are in plaintext.
    let config = ClusterConfig {
        cluster_implementation_specifier: Some(specifier),
        allow_insecure_cluster_options: true,
        ..Default::default()
    };
    CustomClusterType { name: "envoy.clusters.dynamic_forward_proxy".to_owned(), typed_config: Some(any(&config)) }
}

/// The cache of names, which the cluster shares with the filter: both must say the same.
pub(super) fn dns_cache() -> DnsCacheConfig {
    DnsCacheConfig {
        name: "dynamic_forward_proxy".to_owned(),
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        ..Default::default()
    }
}

fn lb_policy(policy: LbPolicy) -> cluster::LbPolicy {
    match policy {
        LbPolicy::RoundRobin => cluster::LbPolicy::RoundRobin,
        LbPolicy::LeastRequest => cluster::LbPolicy::LeastRequest,
        LbPolicy::Random => cluster::LbPolicy::Random,
        LbPolicy::RingHash => cluster::LbPolicy::RingHash,
        LbPolicy::Maglev => cluster::LbPolicy::Maglev,
    }
}

fn circuit_breakers(made_from: &ir::Cluster) -> CircuitBreakers {
    let limits = &made_from.circuit_breaker;
    let budget = made_from.retry_budget.map(|(percent, always)| circuit_breakers::thresholds::RetryBudget {
        budget_percent: value::percent(percent),
        min_retry_concurrency: value::number(always),
        ..Default::default()
    });
    let thresholds = circuit_breakers::Thresholds {
        max_connections: value::number(limits.max_connections),
        max_pending_requests: value::number(limits.max_pending_requests),
        max_requests: value::number(limits.max_requests),
        max_retries: value::number(limits.max_retries),
        retry_budget: budget,
        ..Default::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

/// Only failures in a row count; in a small mesh the percentage alone would never let a host be ejected.
fn outlier_detection(outlier: &Outlier) -> OutlierDetection {
    let enforced = if outlier.consecutive_5xx == 0 { 0 } else { 100 };
    OutlierDetection {
        consecutive_5xx: value::number(outlier.consecutive_5xx.max(1)),
        enforcing_consecutive_5xx: value::number(enforced),
        enforcing_success_rate: value::number(0),
        interval: value::duration(outlier.interval),
        base_ejection_time: value::duration(outlier.base_ejection_time),
        max_ejection_percent: value::number(outlier.max_ejection_percent.per_million().div_ceil(10_000)),
        always_eject_one_host: value::flag(true),
        ..Default::default()
    }
}

/// By endpoint: mTLS to those of the mesh, plaintext to others.
fn socket_matches(mesh: &ir::Tls) -> Vec<TransportSocketMatch> {
    vec![
        TransportSocketMatch {
            name: "mesh".to_owned(),
            r#match: Some(value::texts([(endpoint::MTLS.0, endpoint::MTLS.1.to_owned())])),
            transport_socket: Some(tls::upstream(mesh)),
        },
        TransportSocketMatch {
            name: "plaintext".to_owned(),
            r#match: Some(Struct::default()),
            transport_socket: Some(tls::plaintext()),
        },
    ]
}

fn protocol_options(made_from: &ir::Cluster) -> HashMap<String, Any> {
    let explicit =
        |config| UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(config) });
    let http1 = Http1ProtocolOptions::default;
    let http2 = Http2ProtocolOptions::default;
    let upstream = match made_from.protocol {
        Protocol::Tcp | Protocol::Http1 => explicit(explicit_http_config::ProtocolConfig::HttpProtocolOptions(http1())),
        Protocol::Http2 => explicit(explicit_http_config::ProtocolConfig::Http2ProtocolOptions(http2())),
        Protocol::AsCalled => UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
            http_protocol_options: Some(http1()),
            http2_protocol_options: Some(http2()),
            ..Default::default()
        }),
    };
    let pool = &made_from.connection_pool;
    let options = HttpProtocolOptions {
        common_http_protocol_options: Some(Common {
            idle_timeout: value::duration(pool.idle_timeout),
            max_requests_per_connection: Some(pool.max_requests_per_connection)
                .filter(|n| *n > 0)
                .and_then(value::number),
            ..Default::default()
        }),
        upstream_protocol_options: Some(upstream),
        ..Default::default()
    };
    HashMap::from([("envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(), any(&options))])
}
