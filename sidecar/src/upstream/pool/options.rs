//! What a pool is told of its connections, and what it counts.

use std::time::Duration;

use crate::observe::stats::{Counter, Gauge, Histogram};

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Speaks {
    Http1,
    Http2,
    /// What ALPN agrees on; HTTP/1 without agreement.
    Negotiated,
}

/// Source: `HttpProtocolOptions`, `Http1ProtocolOptions`, `Http2ProtocolOptions`.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolOptions {
    pub speaks: Speaks,
    /// Idle connections are closed after this; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// A connection serves this many requests, then it is closed; 0: no limit.
    pub max_requests_per_connection: u64,
    /// A connection is not used longer than this.
    pub max_connection_duration: Option<Duration>,
    /// HTTP/1: `header_key_format.proper_case_words`.
    pub title_case_headers: bool,
    /// HTTP/1: keep header names as the caller wrote them (`preserve_case`).
    pub preserve_case: bool,
    pub http2: Http2Options,
    /// Largest response head, in KiB.
    pub max_response_headers_kb: u32,
    pub max_response_headers_count: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Http2Options {
    pub initial_stream_window: u32,
    pub initial_connection_window: u32,
    pub max_concurrent_streams: Option<u32>,
    /// Interval and timeout of PINGs.
    pub keepalive: Option<(Duration, Duration)>,
}

impl Default for Http2Options {
    /// Envoy's defaults since 1.34: 16 MiB a stream, 24 MiB a connection.
    fn default() -> Self {
        Http2Options {
            initial_stream_window: 16 << 20,
            initial_connection_window: 24 << 20,
            max_concurrent_streams: None,
            keepalive: None,
        }
    }
}

impl Default for PoolOptions {
    fn default() -> Self {
        PoolOptions {
            speaks: Speaks::Http1,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_requests_per_connection: 0,
            max_connection_duration: None,
            title_case_headers: false,
            preserve_case: false,
            http2: Http2Options::default(),
            max_response_headers_kb: 60,
            max_response_headers_count: 100,
        }
    }
}

/// What a pool counts; the handles are the cluster's.
#[derive(Clone)]
pub struct PoolStats {
    pub cx_total: Counter,
    pub cx_active: Gauge,
    pub cx_http1_total: Counter,
    pub cx_http2_total: Counter,
    pub cx_connect_fail: Counter,
    pub cx_connect_timeout: Counter,
    pub cx_connect_ms: Histogram,
    pub cx_length_ms: Histogram,
    pub rq_per_cx: Histogram,
    pub cx_destroy: Counter,
    pub cx_destroy_local: Counter,
    pub cx_destroy_remote: Counter,
    pub cx_destroy_with_active_rq: Counter,
    pub cx_destroy_remote_with_active_rq: Counter,
    pub cx_idle_timeout: Counter,
    pub cx_max_requests: Counter,
    pub cx_max_duration_reached: Counter,
    pub cx_overflow: Counter,
    pub cx_rx_bytes: Counter,
    pub cx_tx_bytes: Counter,
    pub cx_protocol_error: Counter,
    pub rq_pending_total: Counter,
    pub rq_pending_overflow: Counter,
    pub rq_pending_active: Gauge,
}
