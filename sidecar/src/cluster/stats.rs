//! A cluster's counters, resolved once. Source: Envoy's "Cluster manager statistics".

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::observe::stats::{Counter, Gauge, Histogram, LateCounters, Scope};
use crate::upstream::pool::PoolStats;

macro_rules! cluster_stats {
    ($($field:ident: $kind:ident = $name:literal;)*) => {
        /// Handles to `cluster.NAME.*`.
        pub struct ClusterStats {
            pub scope: Scope,
            pub pool: PoolStats,
            /// `cluster.NAME.retry.*`: what was tried again.
            pub retry: LateCounters,
            pub retry_completed: Counter,
            grpc: OnceLock<Arc<GrpcCalls>>,
            grpc_methods: Mutex<HashMap<Method, Arc<GrpcCalls>>>,
            ext_authz: OnceLock<LateCounters>,
            $(pub $field: cluster_stats!(@type $kind),)*
        }

        impl ClusterStats {
            pub fn new(name: &str) -> Self {
                let scope = Scope::cluster(name);
                ClusterStats {
                    pool: PoolStats::new(&scope),
                    retry: LateCounters::new(scope.child("retry")),
                    grpc: OnceLock::new(),
                    grpc_methods: Mutex::default(),
                    ext_authz: OnceLock::new(),
                    retry_completed: scope.child("retry").counter("upstream_rq_completed"),
                    $($field: scope.$kind($name),)*
                    scope,
                }
            }
        }
    };
    (@type counter) => { Counter };
    (@type gauge) => { Gauge };
    (@type histogram) => { Histogram };
}

cluster_stats! {
    membership_total: gauge = "membership_total";
    membership_healthy: gauge = "membership_healthy";
    membership_degraded: gauge = "membership_degraded";
    membership_excluded: gauge = "membership_excluded";
    membership_change: counter = "membership_change";
    lb_healthy_panic: counter = "lb_healthy_panic";
    update_attempt: counter = "update_attempt";
    update_success: counter = "update_success";
    update_failure: counter = "update_failure";
    cx_none_healthy: counter = "upstream_cx_none_healthy";
    rq_total: counter = "upstream_rq_total";
    rq_active: gauge = "upstream_rq_active";
    rq_completed: counter = "upstream_rq_completed";
    rq_timeout: counter = "upstream_rq_timeout";
    rq_per_try_timeout: counter = "upstream_rq_per_try_timeout";
    rq_per_try_idle_timeout: counter = "upstream_rq_per_try_idle_timeout";
    internal_redirect_succeeded: counter = "upstream_internal_redirect_succeeded_total";
    internal_redirect_failed: counter = "upstream_internal_redirect_failed_total";
    rq_rx_reset: counter = "upstream_rq_rx_reset";
    rq_tx_reset: counter = "upstream_rq_tx_reset";
    rq_cancelled: counter = "upstream_rq_cancelled";
    rq_pending_failure_eject: counter = "upstream_rq_pending_failure_eject";
    rq_retry: counter = "upstream_rq_retry";
    rq_retry_success: counter = "upstream_rq_retry_success";
    rq_retry_overflow: counter = "upstream_rq_retry_overflow";
    rq_retry_limit_exceeded: counter = "upstream_rq_retry_limit_exceeded";
    rq_time: histogram = "upstream_rq_time";
}

/// A gRPC service and its method.
pub type Method = (String, String);

/// Methods of one cluster that are told apart: callers can make any number, and all others are counted together.
const METHODS: usize = 1024;

/// Handles to `cluster.NAME.grpc.*`, or to those of one method.
pub struct GrpcCalls {
    success: Counter,
    failure: Counter,
    total: Counter,
    pub request_messages: Counter,
    pub response_messages: Counter,
    pub upstream_time: Histogram,
    by_status: LateCounters,
}

/// The last status that gRPC knows.
const LAST_STATUS: u16 = 16;

impl GrpcCalls {
    fn new(scope: Scope) -> Self {
        GrpcCalls {
            success: scope.counter("success"),
            failure: scope.counter("failure"),
            total: scope.counter("total"),
            request_messages: scope.counter("request_message_count"),
            response_messages: scope.counter("response_message_count"),
            upstream_time: scope.histogram("upstream_rq_time"),
            by_status: LateCounters::new(scope),
        }
    }

    /// Counts what came of a call. A status that gRPC does not know has no counter of its own: upstream could make any number.
    pub fn count(&self, status: u16) {
        if status <= LAST_STATUS {
            self.by_status.plain(&status.to_string()).inc();
        }
        self.total.inc();
        let outcome = if status == 0 { &self.success } else { &self.failure };
        outcome.inc();
    }
}

impl ClusterStats {
    /// Verdicts of an authorization service on its requests.
    pub fn ext_authz(&self) -> &LateCounters {
        self.ext_authz.get_or_init(|| LateCounters::new(self.scope.child("ext_authz")))
    }

    /// Made when a cluster's first call is counted.
    pub fn grpc(&self) -> Arc<GrpcCalls> {
        self.grpc.get_or_init(|| Arc::new(GrpcCalls::new(self.scope.child("grpc")))).clone()
    }

    /// One method's.
    pub fn grpc_method(&self, method: &Method) -> Arc<GrpcCalls> {
        let mut methods = self.grpc_methods.lock();
        if let Some(calls) = methods.get(method) {
            return calls.clone();
        }
        if methods.len() >= METHODS {
            return self.grpc();
        }
        let scope = self.scope.child("grpc").child(&method.0).child(&method.1);
        methods.entry(method.clone()).or_insert(Arc::new(GrpcCalls::new(scope))).clone()
    }
}

impl PoolStats {
    pub fn new(scope: &Scope) -> Self {
        PoolStats {
            cx_total: scope.counter("upstream_cx_total"),
            cx_active: scope.gauge("upstream_cx_active"),
            cx_http1_total: scope.counter("upstream_cx_http1_total"),
            cx_http2_total: scope.counter("upstream_cx_http2_total"),
            cx_connect_fail: scope.counter("upstream_cx_connect_fail"),
            cx_connect_timeout: scope.counter("upstream_cx_connect_timeout"),
            cx_connect_ms: scope.histogram("upstream_cx_connect_ms"),
            cx_length_ms: scope.histogram("upstream_cx_length_ms"),
            rq_per_cx: scope.histogram("upstream_rq_per_cx"),
            cx_destroy: scope.counter("upstream_cx_destroy"),
            cx_destroy_local: scope.counter("upstream_cx_destroy_local"),
            cx_destroy_remote: scope.counter("upstream_cx_destroy_remote"),
            cx_destroy_with_active_rq: scope.counter("upstream_cx_destroy_with_active_rq"),
            cx_destroy_remote_with_active_rq: scope.counter("upstream_cx_destroy_remote_with_active_rq"),
            cx_idle_timeout: scope.counter("upstream_cx_idle_timeout"),
            cx_max_requests: scope.counter("upstream_cx_max_requests"),
            cx_max_duration_reached: scope.counter("upstream_cx_max_duration_reached"),
            cx_overflow: scope.counter("upstream_cx_overflow"),
            cx_rx_bytes: scope.counter("upstream_cx_rx_bytes_total"),
            cx_tx_bytes: scope.counter("upstream_cx_tx_bytes_total"),
            cx_protocol_error: scope.counter("upstream_cx_protocol_error"),
            rq_pending_total: scope.counter("upstream_rq_pending_total"),
            rq_pending_overflow: scope.counter("upstream_rq_pending_overflow"),
            rq_pending_active: scope.gauge("upstream_rq_pending_active"),
        }
    }
}
