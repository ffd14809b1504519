//! From a request to what should be done with it: virtual host, route, action. Pure: reads the head,
//! a random number and nothing else. Compiled in `config`.

pub mod action;
pub mod config;
pub mod headers;
pub mod internal_redirect;
pub mod prefixes;
pub mod retry;
pub mod rewrite;
pub mod stats;

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use http::Method;
use regex::Regex;

use crate::matcher::{Fraction, HeaderMatcher, QueryMatcher, StringMatcher};
use crate::request::RequestHead;

pub use action::{Action, ClusterChoice, RouteAction};
pub use headers::HeaderOps;

/// Filters' own settings at one level, by filter name.
pub type FilterConfigs = HashMap<String, Arc<dyn Any + Send + Sync>>;

/// Source: `envoy.config.route.v3.RouteConfiguration`.
pub struct RouteTable {
    pub name: String,
    exact: HashMap<String, Arc<VirtualHost>, foldhash::fast::RandomState>,
    /// `*.example.com` and `example.*`, longest first.
    suffixes: Vec<(String, Arc<VirtualHost>)>,
    prefixes: Vec<(String, Arc<VirtualHost>)>,
    catch_all: Option<Arc<VirtualHost>>,
    ignore_port: bool,
    pub ops: HeaderOps,
    /// The table's header operations go first instead of last.
    pub most_specific_wins: bool,
    filters: FilterConfigs,
}

/// Source: `envoy.config.route.v3.VirtualHost`.
pub struct VirtualHost {
    pub name: Arc<str>,
    routes: prefixes::RouteIndex,
    /// Who is sent to https, and the route that does it.
    require_tls: Option<(RequireTls, Arc<Route>)>,
    pub virtual_clusters: stats::VirtualClusters,
    pub ops: HeaderOps,
    pub attempt_count_to_upstream: bool,
    pub attempt_count_to_downstream: bool,
    filters: FilterConfigs,
}

/// Who is sent to https instead. Source: `VirtualHost.TlsRequirementType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequireTls {
    /// Callers from outside.
    External,
    Always,
}

/// Source: `envoy.config.route.v3.Route`.
pub struct Route {
    pub name: Option<Arc<str>>,
    pub path: PathMatch,
    pub case_sensitive: bool,
    pub headers: Vec<HeaderMatcher>,
    pub queries: Vec<QueryMatcher>,
    pub cookies: Vec<(String, StringMatcher, bool)>,
    pub grpc_only: bool,
    pub tls: Option<TlsMatch>,
    pub fraction: Option<Fraction>,
    pub action: Action,
    pub ops: HeaderOps,
    /// The span's name. Source: `decorator.operation`.
    pub operation: Option<String>,
    pub stats: Option<Arc<stats::RequestStats>>,
    pub metadata: Arc<crate::stream::Metadata>,
    /// Bytes of a request's body that a retry may keep.
    pub retry_buffer_limit: Option<usize>,
    filters: FilterConfigs,
}

/// Source: `TlsContextMatchOptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsMatch {
    pub presented: Option<bool>,
    pub validated: Option<bool>,
}

#[derive(Clone, Debug)]
pub enum PathMatch {
    Prefix(String),
    Exact(String),
    /// `/api` matches `/api` and `/api/x`, not `/apix`.
    SeparatedPrefix(String),
    Regex(Regex),
    /// A path template's regex. Source: `envoy.path.match.uri_template`.
    Template(Regex),
    Connect,
}

/// What [`RouteTable::select`] found.
pub struct Selected<'a> {
    pub virtual_host: &'a Arc<VirtualHost>,
    pub route: &'a Arc<Route>,
}

/// What about the connection a route may ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    pub presented: bool,
    pub validated: bool,
    /// From inside the network.
    pub internal: bool,
}

impl RouteTable {
    /// The first route that matches in the virtual host that the authority chooses.
    pub fn select(&self, head: &RequestHead, peer: Peer, random: u64) -> Option<Selected<'_>> {
        let virtual_host = self.virtual_host(head.authority_str())?;
        if let Some((who, route)) = &virtual_host.require_tls
            && (*who == RequireTls::Always || !peer.internal)
            && head.header("x-forwarded-proto").as_deref() != Some(b"https")
        {
            return Some(Selected { virtual_host, route });
        }
        let route = virtual_host.routes.first(head.path_only(), |route| route.matches(head, peer, random))?;
        Some(Selected { virtual_host, route })
    }

    /// Exact name, then the longest `*.suffix`, then the longest `prefix.*`, then `*`.
    pub fn virtual_host(&self, authority: &str) -> Option<&Arc<VirtualHost>> {
        let lower;
        let mut host = authority;
        if host.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = host.to_ascii_lowercase();
            host = &lower;
        }
        if self.ignore_port {
            host = without_port(host);
        }
        if let Some(found) = self.exact.get(host) {
            return Some(found);
        }
        let suffix =
            self.suffixes.iter().find(|(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix.as_str()));
        let prefix =
            || self.prefixes.iter().find(|(prefix, _)| host.len() > prefix.len() && host.starts_with(prefix.as_str()));
        suffix.or_else(prefix).map(|(_, found)| found).or(self.catch_all.as_ref())
    }

    pub fn filter_config(&self, filter: &str) -> Option<Arc<dyn Any + Send + Sync>> {
        self.filters.get(filter).cloned()
    }
}

/// `host:80` without its port; an IPv6 address keeps its brackets.
pub fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    }
}

impl VirtualHost {
    pub fn filter_config(&self, filter: &str) -> Option<Arc<dyn Any + Send + Sync>> {
        self.filters.get(filter).cloned()
    }
}

impl Route {
    /// The route that sends every request to the same place by https.
    fn to_https() -> Self {
        Route {
            name: None,
            path: PathMatch::Prefix("/".to_owned()),
            case_sensitive: true,
            headers: Vec::new(),
            queries: Vec::new(),
            cookies: Vec::new(),
            grpc_only: false,
            tls: None,
            fraction: None,
            action: Action::Redirect(rewrite::Redirect::to_https()),
            ops: HeaderOps::default(),
            operation: None,
            stats: None,
            metadata: Arc::default(),
            retry_buffer_limit: None,
            filters: FilterConfigs::new(),
        }
    }

    pub fn filter_config(&self, filter: &str) -> Option<Arc<dyn Any + Send + Sync>> {
        self.filters.get(filter).cloned()
    }

    fn matches(&self, head: &RequestHead, peer: Peer, random: u64) -> bool {
        self.path_matches(head)
            && self.headers.iter().all(|m| m.matches(head))
            && self.queries.iter().all(|m| m.matches(head.query()))
            && self.cookies.iter().all(|(name, matcher, invert)| cookie_matches(head, name, matcher, *invert))
            && (!self.grpc_only || head.is_grpc())
            && self.tls.is_none_or(|tls| {
                tls.presented.is_none_or(|want| want == peer.presented)
                    && tls.validated.is_none_or(|want| want == peer.validated)
            })
            && self.fraction.is_none_or(|fraction| fraction.contains(random))
    }

    fn path_matches(&self, head: &RequestHead) -> bool {
        if head.method == Method::CONNECT && head.connect_protocol.is_none() {
            return matches!(self.path, PathMatch::Connect);
        }
        let path = head.path_only();
        match &self.path {
            PathMatch::Connect => false,
            PathMatch::Prefix(prefix) => self.starts_with(path, prefix),
            PathMatch::Exact(want) if self.case_sensitive => path == want,
            PathMatch::Exact(want) => path.eq_ignore_ascii_case(want),
            PathMatch::SeparatedPrefix(prefix) => {
                self.starts_with(path, prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
            }
            PathMatch::Regex(regex) | PathMatch::Template(regex) => regex.is_match(path),
        }
    }

    fn starts_with(&self, path: &str, prefix: &str) -> bool {
        if self.case_sensitive {
            path.starts_with(prefix)
        } else {
            path.as_bytes().get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix.as_bytes()))
        }
    }
}

fn cookie_matches(head: &RequestHead, name: &str, matcher: &StringMatcher, invert: bool) -> bool {
    cookie(&head.headers, name).is_some_and(|value| matcher.matches(&value)) != invert
}

/// A cookie's value.
pub fn cookie(headers: &http::HeaderMap, name: &str) -> Option<String> {
    headers.get_all(http::header::COOKIE).iter().filter_map(|v| v.to_str().ok()).find_map(|line| {
        line.split(';').find_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == name).then(|| value.trim_matches('"').to_owned())
        })
    })
}
