//! `envoy.extensions.filters.http.grpc_stats.v3.FilterConfig` → [`GrpcStats`].

use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3::FilterConfig;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3::filter_config::PerMethodStatSpecifier as Specifier;

use super::{GrpcStats, Methods};

/// Compiles the filter.
pub fn filter(name: &str, config: &FilterConfig) -> GrpcStats {
    let methods = match &config.per_method_stat_specifier {
        Some(Specifier::StatsForAllMethods(all)) if all.value => Methods::All,
        Some(Specifier::IndividualMethodStatsAllowlist(list)) => {
            let methods = list
                .services
                .iter()
                .flat_map(|service| service.method_names.iter().map(|method| (service.name.clone(), method.clone())));
            Methods::Listed(methods.collect())
        }
        _ => Methods::None,
    };
    GrpcStats {
        name: name.to_owned(),
        methods,
        emit_filter_state: config.emit_filter_state,
        upstream_time: config.enable_upstream_stats,
    }
}
