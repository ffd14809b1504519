//! HTTP: from bytes to requests, through the filters, and back.

pub mod ask;
pub mod codec;
pub mod config;
pub mod filter;
pub mod finish;
pub mod forwarded;
pub mod gzip;
pub mod handle;
pub mod head_guard;
pub mod limits;
pub mod local_reply;
pub mod path;
pub mod prepare;
pub mod request_id;
pub mod router;
pub mod serve;
pub mod stats;
pub mod upgrade;
pub mod via;
pub mod xfcc;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::route::action::WeightedCluster;
use crate::route::{Action, ClusterChoice, Route, RouteAction, RouteTable, VirtualHost};
use crate::upstream::pool::Http2Options;

pub use stats::ManagerStats;

/// Source: `HttpConnectionManager.codec_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecType {
    Auto,
    Http1,
    Http2,
}

/// Where a connection manager's routes come from.
#[derive(Clone)]
pub enum RouteSource {
    Inline(Arc<RouteTable>),
    /// The name of a RouteConfiguration in the snapshot, and the encoded `ConfigSource` it comes from.
    Discovered {
        name: Arc<str>,
        source: Arc<[u8]>,
    },
}

/// Source: `server_header_transformation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerHeader {
    Overwrite,
    AppendIfAbsent,
    PassThrough,
}

/// Source: `common_http_protocol_options.headers_with_underscores_action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underscores {
    Allow,
    Reject,
    Drop,
}

/// Source: `Http1ProtocolOptions`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Http1Options {
    pub accept_http_10: bool,
    pub default_host_for_http_10: Option<HeaderValue>,
    pub title_case_headers: bool,
    pub preserve_case: bool,
    pub enable_trailers: bool,
}

/// Source: `Http2ProtocolOptions`, downstream.
#[derive(Clone, Debug, PartialEq)]
pub struct DownstreamHttp2 {
    pub initial_stream_window: u32,
    pub initial_connection_window: u32,
    pub max_concurrent_streams: Option<u32>,
    pub keepalive: Option<(Duration, Duration)>,
    /// Extended CONNECT (RFC 8441).
    pub allow_connect: bool,
}

impl Default for DownstreamHttp2 {
    fn default() -> Self {
        let Http2Options { initial_stream_window, initial_connection_window, .. } = Http2Options::default();
        DownstreamHttp2 {
            initial_stream_window,
            initial_connection_window,
            max_concurrent_streams: None,
            keepalive: None,
            allow_connect: false,
        }
    }
}

/// Source: `strip_any_host_port`, `strip_matching_host_port`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StripPort {
    #[default]
    Never,
    Matching,
    Any,
}

/// A compiled connection manager; immutable, shared by all workers.
/// Source: `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
pub struct ConnectionManager {
    pub stat_prefix: String,
    pub stats: ManagerStats,
    pub codec: CodecType,
    pub routes: RouteSource,
    pub filters: Vec<filter::Link>,
    pub access_logs: Vec<crate::observe::access_log::AccessLog>,
    pub needs_request_headers: bool,
    /// What replies of ours look like, where that is configured.
    pub local_replies: Option<local_reply::Mapping>,
    pub tracer: Option<crate::observe::trace::Tracer>,
    pub server_name: HeaderValue,
    pub server_header: ServerHeader,
    pub forwarded: forwarded::ForwardedRules,
    pub xfcc: xfcc::XfccRules,
    pub upgrades: Vec<upgrade::Upgrade>,
    pub request_id: request_id::RequestIdRules,
    pub path: path::PathRules,
    pub strip_port: StripPort,
    pub strip_trailing_dot: bool,
    pub underscores: Underscores,
    pub via: Option<HeaderValue>,
    /// `Expect: 100-continue` goes upstream.
    pub proxy_100_continue: bool,
    pub http1: Http1Options,
    pub http2: DownstreamHttp2,
    pub max_request_headers_kb: u32,
    pub max_headers_count: u32,
    pub max_requests_per_connection: u32,
    /// 1 h; `None`: never.
    pub idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    /// Of each request; its idle timeout is 5 min.
    pub stream_limits: limits::Rules,
    pub request_headers_timeout: Option<Duration>,
    /// The router's own settings. Source: `envoy.extensions.filters.http.router.v3.Router`.
    pub router: router::RouterOptions,
    /// Bytes of a request or response that may be kept.
    pub buffer_limit: usize,
    /// Inbound listeners make SERVER spans.
    pub inbound: bool,
}

impl ConnectionManager {
    pub fn count_connection_error(&self, http2: bool, error: &hyper::Error) {
        if error.is_parse() || error.is_parse_too_large() || http2 {
            self.stats.cx_protocol_error.inc();
        }
        if error.is_parse_too_large() {
            self.stats.rq_too_large.inc();
        }
    }
}

/// The route a request takes, with its virtual host.
#[derive(Clone)]
pub struct RouteChoice {
    pub table: Arc<RouteTable>,
    pub virtual_host: Arc<VirtualHost>,
    pub route: Arc<Route>,
    /// Which of the route's weighted clusters was drawn.
    pub weighted: Option<usize>,
}

impl RouteChoice {
    /// What the route does, if it forwards.
    pub fn forward(&self) -> Option<&RouteAction> {
        match &self.route.action {
            Action::Forward(action) => Some(action),
            _ => None,
        }
    }

    /// The weighted cluster that was drawn.
    pub fn weighted(&self) -> Option<&WeightedCluster> {
        match &self.forward()?.cluster {
            ClusterChoice::Weighted(weighted) => weighted.clusters.get(self.weighted?),
            _ => None,
        }
    }

    /// Header operations in the order in which they apply: the most specific first, unless the table says otherwise.
    pub fn ops(&self) -> impl Iterator<Item = &crate::route::HeaderOps> {
        let mut levels: smallvec::SmallVec<[&crate::route::HeaderOps; 4]> = smallvec::SmallVec::new();
        levels.extend(self.weighted().map(|w| &w.ops));
        levels.extend([&self.route.ops, &self.virtual_host.ops, &self.table.ops]);
        if self.table.most_specific_wins {
            levels.reverse();
        }
        levels.into_iter()
    }

    /// The most specific configuration for a filter: the weighted cluster's, the route's, the virtual host's, the
    /// table's.
    pub fn filter_config(&self, filter: &str) -> Option<Arc<dyn Any + Send + Sync>> {
        self.weighted()
            .and_then(|weighted| weighted.filters.get(filter).cloned())
            .or_else(|| self.route.filter_config(filter))
            .or_else(|| self.virtual_host.filter_config(filter))
            .or_else(|| self.table.filter_config(filter))
    }
}
