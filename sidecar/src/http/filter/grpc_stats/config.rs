//! `envoy.extensions.filters.http.grpc_stats.v3.FilterConfig` → [`GrpcStats`]. Calls are not told apart by their methods:
//! only what the metrics show would differ, so that wish is passed over with a warning.

use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3::filter_config::PerMethodStatSpecifier as Methods;
use tracing::warn;

use super::GrpcStats;

/// Compiles the filter.
pub fn filter(name: &str, config: &FilterConfig) -> GrpcStats {
    let by_method = match &config.per_method_stat_specifier {
        Some(Methods::StatsForAllMethods(all)) => all.value,
        Some(Methods::IndividualMethodStatsAllowlist(list)) => !list.services.is_empty(),
        None => false,
    };
    if by_method {
        warn!(filter = name, "stats by method are not supported: calls are counted by cluster");
    }
    GrpcStats {
        name: name.to_owned(),
        emit_filter_state: config.emit_filter_state,
        upstream_time: config.enable_upstream_stats,
    }
}
