//! `stats.PluginConfig` of a connection → [`IstioStats`]. Changes to the standard metrics are not supported: only what the
//! metrics show would differ, so they are passed over with a warning.

use std::time::Duration;

use tracing::warn;
use xds::istio::stats::PluginConfig;

use super::IstioStats;
use crate::config::limit;

/// Compiles the filter.
pub fn filter(name: &str, config: &PluginConfig, inbound: bool) -> IstioStats {
    if !config.metrics.is_empty() || !config.definitions.is_empty() {
        warn!(filter = name, "metrics and definitions are not supported: the standard metrics are reported");
    }
    let every = limit(config.tcp_reporting_duration.as_ref(), Some(Duration::from_secs(5)));
    IstioStats { inbound, every }
}
