//! What is counted of the process as a whole. Source: Envoy's "Server statistics".

use super::stats::{Gauge, Scope};

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
