//! What the subscriptions count: one set of handles for each resource that is waited for, in the scope of
//! whoever uses it. Source: Envoy's `SubscriptionStats`.

use crate::observe::stats::{Counter, Gauge, Scope};

/// Handles to `SCOPE.update_*`.
#[derive(Clone)]
pub struct SubscriptionStats {
    pub attempt: Counter,
    pub success: Counter,
    pub failure: Counter,
    pub rejected: Counter,
    /// Never counted: a subscription without names opens no stream here. Kept for dashboards that name it.
    _empty: Counter,
    pub fetch_timeout: Counter,
    /// Of route tables only: a new one was taken.
    pub reload: Counter,
    version: Gauge,
}

impl SubscriptionStats {
    pub fn new(scope: &Scope) -> Self {
        SubscriptionStats {
            attempt: scope.counter("update_attempt"),
            success: scope.counter("update_success"),
            failure: scope.counter("update_failure"),
            rejected: scope.counter("update_rejected"),
            _empty: scope.counter("update_empty"),
            fetch_timeout: scope.counter("init_fetch_timeout"),
            reload: scope.counter("config_reload"),
            version: scope.gauge("version"),
        }
    }

    /// A response was taken. `asks_again`: a stream whose answer is the next request.
    pub fn taken(&self, version: &str, asks_again: bool) {
        self.success.inc();
        self.version.set(xxhash_rust::xxh64::xxh64(version.as_bytes(), 0));
        if asks_again {
            self.attempt.inc();
        }
    }

    pub fn refused(&self, asks_again: bool) {
        self.rejected.inc();
        if asks_again {
            self.attempt.inc();
        }
    }
}

/// Handles to what changed. Source: "Cluster manager statistics", "Listener manager".
pub struct ChangeStats {
    pub added: Counter,
    pub modified: Counter,
    pub removed: Counter,
    pub warming: Gauge,
    pub active: Gauge,
}

impl ChangeStats {
    pub fn clusters() -> Self {
        let scope = Scope::root().child("cluster_manager");
        Self::new(&scope, "cluster", ["warming_clusters", "active_clusters"])
    }

    pub fn listeners() -> Self {
        let scope = Scope::root().child("listener_manager");
        Self::new(&scope, "listener", ["total_listeners_warming", "total_listeners_active"])
    }

    fn new(scope: &Scope, what: &str, [warming, active]: [&str; 2]) -> Self {
        ChangeStats {
            added: scope.counter(&format!("{what}_added")),
            modified: scope.counter(&format!("{what}_modified")),
            removed: scope.counter(&format!("{what}_removed")),
            warming: scope.gauge(warming),
            active: scope.gauge(active),
        }
    }
}
