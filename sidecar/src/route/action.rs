//! What a matched route does: forward, redirect, or answer. Rewrites of path and host are here too.
//! Source: `envoy.config.route.v3.{RouteAction,RedirectAction,DirectResponseAction}`.

use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

use super::PathMatch;
use super::headers::HeaderOps;
use super::retry::RetryPolicy;
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
    pub retry: Option<Arc<RetryPolicy>>,
    pub hash: Vec<HashPolicy>,
    pub metadata_match: Option<Arc<Metadata>>,
    pub high_priority: bool,
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
    /// The cluster whose share the number falls into.
    pub fn choose(&self, head: &RequestHead, random: u64) -> Option<&WeightedCluster> {
        let given = self.header.as_ref().and_then(|name| {
            let value = head.header(name)?;
            std::str::from_utf8(&value).ok()?.parse::<u64>().ok()
        });
        let mut point = given.unwrap_or(random) % self.total.max(1);
        self.clusters.iter().find(|c| {
            let weight = u64::from(c.weight);
            let inside = point < weight;
            point = point.wrapping_sub(weight);
            inside
        })
    }
}

#[derive(Default)]
pub enum PathRewrite {
    #[default]
    Keep,
    Prefix(String),
    Regex(Regex, String),
}

impl PathRewrite {
    /// The new path with its query, or `None` if nothing changes. Case-insensitive prefixes are cut by length.
    pub fn apply(&self, matched: &PathMatch, head: &RequestHead) -> Option<String> {
        let path = head.path_only();
        let new = match self {
            PathRewrite::Keep => return None,
            PathRewrite::Prefix(with) => {
                let cut = match matched {
                    PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => prefix.len(),
                    _ => path.len(),
                };
                format!("{with}{}", path.get(cut..).unwrap_or(""))
            }
            PathRewrite::Regex(regex, with) => regex.replace_all(path, with.as_str()).into_owned(),
        };
        Some(match head.query() {
            Some(query) => format!("{new}?{query}"),
            None => new,
        })
    }
}

#[derive(Default)]
pub enum HostRewrite {
    #[default]
    Keep,
    Literal(String),
    /// The value of this request header.
    Header(String),
    PathRegex(Regex, String),
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

/// Source: `RedirectAction`.
pub struct Redirect {
    pub status: u16,
    pub https: bool,
    pub scheme: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Option<String>,
    pub rewrite: PathRewrite,
    pub strip_query: bool,
}

impl Redirect {
    /// The `Location`. A port of the old scheme's default is dropped when the scheme changes.
    pub fn location(&self, matched: &PathMatch, head: &RequestHead) -> String {
        let old_scheme = head
            .header("x-forwarded-proto")
            .map_or_else(|| head.scheme.as_str().to_owned(), |v| String::from_utf8_lossy(&v).into_owned());
        let scheme = match &self.scheme {
            Some(scheme) => scheme.clone(),
            None if self.https => "https".to_owned(),
            None => old_scheme.clone(),
        };
        let authority = head.authority_str();
        let host = match (&self.host, self.port) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.clone(),
            (None, Some(port)) => format!("{}:{port}", super::without_port(authority)),
            (None, None) => {
                let old_default = if old_scheme == "https" { ":443" } else { ":80" };
                match authority.strip_suffix(old_default) {
                    Some(bare) if scheme != old_scheme => bare.to_owned(),
                    _ => authority.to_owned(),
                }
            }
        };
        let query = head.query().filter(|_| !self.strip_query);
        let path = match &self.path {
            Some(path) if path.contains('?') => return format!("{scheme}://{host}{path}"),
            Some(path) => path.clone(),
            None => {
                let rewritten = self.rewrite.apply(matched, head);
                rewritten.map_or_else(|| head.path_only().to_owned(), |p| p.split('?').next().unwrap_or("").to_owned())
            }
        };
        match query {
            Some(query) => format!("{scheme}://{host}{path}?{query}"),
            None => format!("{scheme}://{host}{path}"),
        }
    }
}
