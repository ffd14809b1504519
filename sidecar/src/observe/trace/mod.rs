//! Tracing: what a connection manager is told to trace, the context that travels with requests, and
//! the spans that are sent to Zipkin. When a request is traced, and when its span starts and ends, is
//! decided in `http::trace`.

pub mod config;
pub mod context;
pub mod exporter;
pub mod span;

use std::sync::Arc;

use crate::format::Format;
use crate::observe::stats::Counter;

pub use exporter::{Collector, submit};

/// A compiled tracer. Source: `HttpConnectionManager.Tracing` with a `ZipkinConfig`.
pub struct Tracer {
    /// Hundredths of a percent (0 to 10,000) of requests with `x-client-trace-id`; 10,000.
    pub client_sampling: u64,
    /// Likewise, of all requests.
    pub random_sampling: u64,
    /// Likewise, an upper limit on all that are traced.
    pub overall_sampling: u64,
    /// Characters of the path in `http.url`; 256.
    pub max_path: usize,
    pub custom_tags: Vec<CustomTag>,
    /// Spans tell when their first and last bytes went and came.
    pub verbose: bool,
    /// The call upstream gets a span of its own.
    pub spawn_upstream_span: bool,
    /// OUTBOUND listeners make CLIENT spans.
    pub outbound: bool,
    pub collector: Arc<Collector>,
    pub long_trace_ids: bool,
    /// Caller's and called's span have one id; true.
    pub shared_span_context: bool,
    /// `traceparent` is read and written beside B3.
    pub w3c: bool,
    pub stats: TracerStats,
}

/// `http.STAT_PREFIX.tracing.*`.
pub struct TracerStats {
    pub random_sampling: Counter,
    pub service_forced: Counter,
    pub client_enabled: Counter,
    pub not_traceable: Counter,
    pub health_check: Counter,
}

/// A tag of the configuration's own. Source: `envoy.type.tracing.v3.CustomTag`.
pub struct CustomTag {
    pub tag: String,
    pub source: TagSource,
    /// Empty: no tag.
    pub default: String,
}

pub enum TagSource {
    Literal(String),
    RequestHeader(String),
    /// Dynamic metadata: namespace, then keys.
    RequestMetadata(Vec<String>),
    /// Metadata of the host that was chosen.
    HostMetadata(Vec<String>),
    Value(Format),
}

impl Tracer {
    /// Do tags read the request's headers when it is over?
    pub fn reads_request(&self) -> bool {
        self.custom_tags.iter().any(|tag| matches!(tag.source, TagSource::Value(_) | TagSource::RequestHeader(_)))
    }
}
