//! `stats.PluginConfig` → [`IstioStats`]. Changes to the standard metrics are not supported: only what the
//! metrics show would differ, so they are passed over with a warning.

use xds::istio::stats::PluginConfig;

use super::IstioStats;
use crate::observe::workload::config::standard_only;

/// Compiles the filter.
pub fn filter(name: &str, config: &PluginConfig) -> IstioStats {
    standard_only(name, config);
    IstioStats { name: name.to_owned(), host_fallback: !config.disable_host_header_fallback }
}
