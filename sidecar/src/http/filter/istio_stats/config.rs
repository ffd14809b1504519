//! `stats.PluginConfig` → [`IstioStats`]. Changes to the standard metrics are not supported: only what the
//! metrics show would differ, so they are passed over with a warning.

use tracing::warn;
use xds::istio::stats::PluginConfig;

use super::IstioStats;

/// Compiles the filter.
pub fn filter(name: &str, config: &PluginConfig) -> IstioStats {
    if !config.metrics.is_empty() || !config.definitions.is_empty() {
        warn!(filter = name, "metrics and definitions are not supported: the standard metrics are reported");
    }
    IstioStats { name: name.to_owned(), host_fallback: !config.disable_host_header_fallback }
}
