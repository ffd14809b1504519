//! Clusters: what one is configured to be, its hosts, and how one of them is chosen. What outlives a
//! configuration (connections) belongs to `upstream`.

pub mod circuit_breaker;
pub mod config;
pub mod hosts;
pub mod load_balancer;
pub mod stats;

use std::sync::Arc;
use std::time::Duration;

pub use circuit_breaker::{CircuitBreakers, Thresholds};
pub use hosts::{Health, Host, HostSet};
pub use stats::ClusterStats;

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
    },
    /// Source: `MaglevLbConfig.table_size`; a prime.
    Maglev {
        size: u64,
    },
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
    pub breakers: CircuitBreakers,
    pub stats: ClusterStats,
    /// Below this share of healthy hosts (percent), all are used; 50.
    pub panic_threshold: f64,
    /// Bytes of a request's body that may be kept for a retry; 1 MiB.
    pub buffer_limit: usize,
}

impl Cluster {
    /// The secrets that must be fetched before its connections can be made.
    pub fn secrets(&self) -> Vec<Arc<SecretSlot>> {
        self.tls.iter().flat_map(|tls| tls.wanted()).collect()
    }
}
