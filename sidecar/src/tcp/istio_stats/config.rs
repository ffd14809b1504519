//! `stats.PluginConfig` of a connection → [`IstioStats`]. Changes to the standard metrics are not supported: only what the
//! metrics show would differ, so they are passed over with a warning.

use std::time::Duration;

use xds::istio::stats::PluginConfig;

use super::IstioStats;
use crate::config::limit;
use crate::observe::workload::config::standard_only;

/// Compiles the filter.
pub fn filter(name: &str, config: &PluginConfig, inbound: bool) -> IstioStats {
    standard_only(name, config);
    let every = limit(config.tcp_reporting_duration.as_ref(), Some(Duration::from_secs(5)));
    IstioStats { inbound, every }
}
