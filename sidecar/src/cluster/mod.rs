//! Clusters: what one is configured to be, its hosts, and how one of them is chosen. What outlives a
//! configuration (connections) belongs to `upstream`.

pub mod circuit_breaker;
pub mod config;
pub mod dns;
pub mod health_check;
pub mod host_stats;
pub mod hosts;
pub mod load_balancer;
pub mod outlier;
pub mod stats;
pub mod subset;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;

pub use circuit_breaker::{CircuitBreakers, Thresholds};
pub use hosts::{Health, Host, HostSet, Locality};
pub use stats::ClusterStats;

use crate::tcp::MetadataExchange;
use crate::tls::{SecretSlot, UpstreamTls};
use crate::upstream::connect::SocketOptions;
use crate::upstream::pool::PoolOptions;

/// Which host is chosen. Source: `Cluster.lb_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LbPolicy {
    RoundRobin,
    /// The least loaded of so many drawn at random; 2.
    LeastRequest {
        choices: u32,
    },
    Random,
    /// Source: `RingHashLbConfig`.
    RingHash {
        minimum: u64,
        maximum: u64,
        hash: RingHashFunction,
        /// Hosts are hashed by their names. Source: `use_hostname_for_hashing`.
        by_hostname: bool,
    },
    /// Source: `MaglevLbConfig.table_size`; a prime.
    Maglev {
        size: u64,
        by_hostname: bool,
    },
}

/// Source: `RingHashLbConfig.hash_function`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingHashFunction {
    XxHash,
    MurmurHash2,
}

/// Which protocol goes upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    Fixed(crate::upstream::pool::Speaks),
    /// What the caller speaks.
    AsDownstream,
}

/// Where a cluster's hosts come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Its own `load_assignment`.
    Static,
    /// EDS: the name to ask for, and the encoded `ConfigSource`.
    Eds { service_name: String, source: Option<Vec<u8>> },
    /// Names that are looked up. Source: `STRICT_DNS`, `LOGICAL_DNS`.
    Dns(dns::Dns),
    /// The request's authority, resolved when it is needed.
    /// Source: `envoy.clusters.dynamic_forward_proxy`.
    ForwardProxy(ForwardProxy),
    /// Where the connection wanted to go before it was redirected. Source: `ORIGINAL_DST`.
    OriginalDst(OriginalDst),
}

/// Source: `DnsCacheConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardProxy {
    pub family: crate::upstream::resolve::Family,
    /// How long an answer is good for; 60 s.
    pub refresh: Duration,
}

/// Source: `OriginalDstLbConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginalDst {
    /// This request header goes before the connection's own destination.
    pub header: Option<String>,
    /// This port goes before the destination's.
    pub port: Option<u16>,
}

/// A TLS context for hosts whose metadata contains `criteria`. Source: `Cluster.TransportSocketMatch`.
pub struct TransportSocketMatch {
    pub criteria: serde_json::Map<String, serde_json::Value>,
    /// `None`: plain.
    pub tls: Option<Arc<UpstreamTls>>,
}

/// A compiled cluster; immutable, shared by all workers.
/// Source: `envoy.config.cluster.v3.Cluster`.
pub struct Cluster {
    pub name: Arc<str>,
    pub discovery: Discovery,
    /// The name in metrics (`alt_stat_name`).
    pub stat_name: String,
    /// 5 s.
    pub connect_timeout: Duration,
    pub lb_policy: LbPolicy,
    pub protocol: UpstreamProtocol,
    pub pool: PoolOptions,
    pub socket: SocketOptions,
    pub tls: Option<Arc<UpstreamTls>>,
    /// The first that fits a host goes before `tls`.
    pub tls_matches: Vec<TransportSocketMatch>,
    /// What its connections say and hear ahead of their bytes. Source: `Cluster.filters`.
    pub exchanges: Vec<Arc<MetadataExchange>>,
    pub metadata: Arc<crate::stream::Metadata>,
    pub breakers: CircuitBreakers,
    pub stats: Arc<ClusterStats>,
    pub spread: hosts::Spread,
    pub subsets: Option<subset::Subsets>,
    pub health_checks: Vec<health_check::HealthCheck>,
    /// With the counters, and where the workers tell of runs of failures.
    pub outlier: Option<Outlier>,
    /// Bytes of a request's body that may be kept for a retry; 1 MiB.
    pub buffer_limit: usize,
}

/// A cluster's outlier detection, as the workers see it.
pub struct Outlier {
    pub rules: outlier::OutlierRules,
    pub stats: outlier::OutlierStats,
    /// Set once the cluster serves.
    pub told: OnceLock<mpsc::UnboundedSender<(crate::net::Address, outlier::Cause)>>,
}

impl Cluster {
    /// Takes what came of a try at a host.
    pub fn report(&self, host: &Host, worker: usize, outcome: host_stats::Outcome) {
        let Some(outlier) = &self.outlier else { return };
        if let (Some(cause), Some(told)) = (host.stats.report(worker, outcome, &outlier.rules), outlier.told.get()) {
            // A cluster that is gone ejects nobody.
            let _ = told.send((host.address.clone(), cause));
        }
    }

    /// The secrets that must be fetched before its connections can be made.
    pub fn secrets(&self) -> Vec<Arc<SecretSlot>> {
        let matched = self.tls_matches.iter().filter_map(|m| m.tls.as_ref());
        self.tls.iter().chain(matched).flat_map(|tls| tls.wanted()).collect()
    }

    /// All that its TLS contexts use.
    pub fn all_secrets(&self) -> Vec<Arc<SecretSlot>> {
        let matched = self.tls_matches.iter().filter_map(|m| m.tls.as_ref());
        self.tls.iter().chain(matched).flat_map(|tls| tls.common.slots().cloned()).collect()
    }

    /// Hosts are not listed but made as requests come.
    pub fn makes_hosts(&self) -> bool {
        matches!(self.discovery, Discovery::ForwardProxy(_) | Discovery::OriginalDst(_))
    }

    /// What secures connections to a host; `None`: nothing.
    pub fn tls_for(&self, host: &Host) -> Option<&Arc<UpstreamTls>> {
        let labels = host.metadata.get("envoy.transport_socket_match").and_then(|m| m.as_object());
        let fits = |m: &&TransportSocketMatch| {
            m.criteria.iter().all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
        };
        match self.tls_matches.iter().find(fits) {
            Some(found) => found.tls.as_ref(),
            None => self.tls.as_ref(),
        }
    }
}
