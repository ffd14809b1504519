//! Requests that are counted together: a virtual host's virtual clusters, and routes with a `stat_prefix`.
//! Source: `envoy.config.route.v3.VirtualCluster`, `Route.stat_prefix`; Envoy's "Virtual cluster statistics".

use std::sync::Arc;
use std::time::Duration;

use crate::matcher::HeaderMatcher;
use crate::observe::stats::{Counter, Histogram, LateCounters, Scope};
use crate::request::RequestHead;

/// The counters of a group of requests.
pub struct RequestStats {
    pub name: Arc<str>,
    codes: LateCounters,
    completed: Counter,
    pub total: Counter,
    pub timeout: Counter,
    pub retry: Counter,
    pub retry_success: Counter,
    pub retry_overflow: Counter,
    pub retry_limit_exceeded: Counter,
    time: Histogram,
}

impl RequestStats {
    pub fn new(name: &str, scope: &Scope) -> Self {
        let scope = scope.child(name);
        RequestStats {
            name: name.into(),
            total: scope.counter("upstream_rq_total"),
            timeout: scope.counter("upstream_rq_timeout"),
            retry: scope.counter("upstream_rq_retry"),
            retry_success: scope.counter("upstream_rq_retry_success"),
            retry_overflow: scope.counter("upstream_rq_retry_overflow"),
            retry_limit_exceeded: scope.counter("upstream_rq_retry_limit_exceeded"),
            time: scope.histogram("upstream_rq_time"),
            completed: scope.counter("upstream_rq_completed"),
            codes: LateCounters::new(scope),
        }
    }

    /// Counts an answer. The counters of single codes are looked up: only who asks for groups pays for them.
    pub fn count(&self, status: u16, took: Duration) {
        self.codes.count_status(status);
        self.completed.inc();
        self.time.record(took.as_millis() as u64);
    }
}

/// One virtual cluster.
struct Kind {
    headers: Vec<HeaderMatcher>,
    stats: Arc<RequestStats>,
}

/// A virtual host's virtual clusters; none: nothing is counted.
#[derive(Default)]
pub struct VirtualClusters {
    kinds: Vec<Kind>,
    /// For what no kind covers.
    other: Option<Arc<RequestStats>>,
}

impl VirtualClusters {
    pub fn new(virtual_host: &str, kinds: Vec<(String, Vec<HeaderMatcher>)>) -> Self {
        let scope = Scope::root().child("vhost").child(virtual_host).child("vcluster");
        let other = (!kinds.is_empty()).then(|| Arc::new(RequestStats::new("other", &scope)));
        let kinds = kinds.into_iter().map(|(name, headers)| {
            let stats = Arc::new(RequestStats::new(&name, &scope));
            Kind { headers, stats }
        });
        VirtualClusters { kinds: kinds.collect(), other }
    }

    /// Does it count what no kind covers?
    pub fn is_other(&self, stats: &Arc<RequestStats>) -> bool {
        self.other.as_ref().is_some_and(|other| Arc::ptr_eq(other, stats))
    }

    /// The first kind that covers the request.
    pub fn find(&self, head: &RequestHead) -> Option<&Arc<RequestStats>> {
        let kind = self.kinds.iter().find(|kind| kind.headers.iter().all(|m| m.matches(head)));
        kind.map(|kind| &kind.stats).or(self.other.as_ref())
    }
}
