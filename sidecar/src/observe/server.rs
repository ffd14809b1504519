//! What is counted of the process as a whole. Source: Envoy's "Server statistics".

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::stats::{Gauge, Scope};

static FAILS_HEALTH_CHECKS: AtomicBool = AtomicBool::new(false);

/// Tells callers that they should go elsewhere, or may come again. Source: `/healthcheck/fail`, `/healthcheck/ok`.
pub fn fail_health_checks(fail: bool) {
    FAILS_HEALTH_CHECKS.store(fail, Relaxed);
}

pub fn fails_health_checks() -> bool {
    FAILS_HEALTH_CHECKS.load(Relaxed)
}

/// Handles to `server.*`; kept as long as the process serves.
pub struct ServerStats {
    /// 1 while it serves.
    pub live: Gauge,
    /// Worker threads.
    pub concurrency: Gauge,
}

impl ServerStats {
    pub fn new(workers: usize) -> Self {
        let scope = Scope::root().child("server");
        let stats = ServerStats { live: scope.gauge("live"), concurrency: scope.gauge("concurrency") };
        stats.concurrency.set(workers as u64);
        stats
    }
}
