//! What a matched route does: forward, redirect, or answer.
//! Source: `envoy.config.route.v3.{RouteAction,RedirectAction,DirectResponseAction}`.

pub mod config;

use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderMap;

use super::headers::HeaderOps;
use super::internal_redirect::InternalRedirects;
use super::retry::RetryPolicy;
use super::rewrite::{HostRewrite, PathRewrite, Redirect};
use crate::matcher::Fraction;
use crate::request::RequestHead;
use crate::stream::Metadata;

pub enum Action {
    Forward(Box<RouteAction>),
    Redirect(Redirect),
    Direct(Direct),
    /// gRPC servers' own routes: a proxy has nothing to do there.
    NonForwarding,
}

impl Action {
    /// The cluster that every request of the route goes to.
    pub fn cluster_name(&self) -> Option<&str> {
        match self {
            Action::Forward(action) => match &action.cluster {
                ClusterChoice::Cluster(name) => Some(name),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A response from the route itself.
pub struct Direct {
    pub status: u16,
    pub body: String,
}

/// Forwarding to a cluster.
pub struct RouteAction {
    pub cluster: ClusterChoice,
    /// 503 by default.
    pub cluster_not_found_status: u16,
    pub path: PathRewrite,
    pub host: HostRewrite,
    pub append_x_forwarded_host: bool,
    /// 15 s by default; `None`: no limit.
    pub timeout: Option<Duration>,
    /// Overrides the listener's stream idle timeout; `Some(None)`: none.
    pub idle_timeout: Option<Option<Duration>>,
    pub duration: Option<StreamDuration>,
    pub retry: Option<Arc<RetryPolicy>>,
    /// A try that takes too long goes on beside the next one. Source: `hedge_policy.hedge_on_per_try_timeout`.
    pub hedge: bool,
    pub mirrors: Vec<Mirror>,
    pub redirects: Option<Arc<InternalRedirects>>,
    /// Go before the listener's own.
    pub upgrades: Vec<crate::http::upgrade::Upgrade>,
    pub hash: Vec<HashPolicy>,
    pub metadata_match: Option<Arc<Metadata>>,
    pub high_priority: bool,
}

/// How long the whole exchange may last. Source: `RouteAction.MaxStreamDuration`, `max_grpc_timeout`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamDuration {
    /// `Some(None)`: no limit, whatever the listener says.
    pub max: Option<Option<Duration>>,
    /// `grpc-timeout` counts up to this (`Some(None)`: whatever it says).
    pub grpc_max: Option<Option<Duration>>,
    /// Taken off `grpc-timeout`, so that the answer is on its way before the caller gives up.
    pub grpc_offset: Duration,
}

impl StreamDuration {
    /// The limit for a request; `None`: the listener's stays.
    pub fn limit(&self, headers: &HeaderMap) -> Option<Option<Duration>> {
        match self.grpc_max {
            Some(max) => match grpc_timeout(headers) {
                Some(asked) => Some(Some(self.grpc(asked, max))),
                None => self.max,
            },
            None => self.max,
        }
    }

    fn grpc(&self, asked: Duration, max: Option<Duration>) -> Duration {
        let bounded = max.map_or(asked, |max| if asked.is_zero() { max } else { asked.min(max) });
        if bounded > self.grpc_offset { bounded - self.grpc_offset } else { bounded }
    }
}

/// How long a gRPC caller waits. Source: gRPC over HTTP/2, `grpc-timeout`: up to 8 digits and a unit.
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount = (digits.len() <= 8).then(|| digits.parse::<u64>().ok())??;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

/// A copy of requests that goes to another cluster; nobody waits for its answer.
/// Source: `RouteAction.RequestMirrorPolicy`.
pub struct Mirror {
    /// A cluster's name, or that of the request header that names it.
    pub cluster: MirrorTo,
    pub fraction: Option<Fraction>,
    /// `-shadow` is appended to the host's name.
    pub mark_host: bool,
    pub host: Option<String>,
}

pub enum MirrorTo {
    Cluster(Arc<str>),
    Header(String),
}

pub enum ClusterChoice {
    Cluster(Arc<str>),
    /// The request's header names it.
    Header(String),
    Weighted(WeightedClusters),
}

pub struct WeightedClusters {
    pub clusters: Vec<WeightedCluster>,
    /// Above 0.
    pub total: u64,
    /// A header's number takes the random one's place.
    pub header: Option<String>,
}

pub struct WeightedCluster {
    pub name: Arc<str>,
    /// Where the request's header names the cluster instead.
    pub header: Option<String>,
    pub weight: u32,
    pub ops: HeaderOps,
    pub host: Option<String>,
    pub metadata_match: Option<Arc<Metadata>>,
    pub filters: super::FilterConfigs,
}

impl WeightedClusters {
    /// The place of the cluster whose share the number falls into.
    pub fn choose(&self, head: &RequestHead, random: u64) -> Option<usize> {
        let given = self.header.as_ref().and_then(|name| {
            let value = head.header(name)?;
            std::str::from_utf8(&value).ok()?.parse::<u64>().ok()
        });
        let mut point = given.unwrap_or(random) % self.total.max(1);
        self.clusters.iter().position(|c| {
            let weight = u64::from(c.weight);
            let inside = point < weight;
            point = point.wrapping_sub(weight);
            inside
        })
    }
}

/// What a consistent hash is made of.
pub struct HashPolicy {
    pub source: HashSource,
    /// A hash from here ends the search.
    pub terminal: bool,
}

pub enum HashSource {
    Header(String),
    /// Name, and how long a cookie that we make lives (`None`: none is made).
    Cookie {
        name: String,
        ttl: Option<Duration>,
        path: String,
    },
    SourceIp,
    Query(String),
}
