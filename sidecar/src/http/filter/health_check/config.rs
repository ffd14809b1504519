//! `envoy.extensions.filters.http.health_check.v3.HealthCheck` → [`HealthCheckFilter`].

use std::sync::Mutex;

use envoy_types::pb::envoy::extensions::filters::http::health_check::v3::HealthCheck;

use super::HealthCheckFilter;
use crate::config::{ConfigError, bool_or, duration, each};
use crate::matcher::config as matchers;

/// Compiles the filter.
///
/// # Errors
/// A header matcher that is none, or both a cache and no passing through.
pub fn filter(name: &str, config: &HealthCheck) -> Result<HealthCheckFilter, ConfigError> {
    let pass_through = bool_or(config.pass_through_mode.as_ref(), false);
    let cache_time = duration(config.cache_time.as_ref()).filter(|d| !d.is_zero());
    if !pass_through && cache_time.is_some() {
        return Err(ConfigError::at("cache_time", "cache_time_ms must not be set when path_through_mode is disabled"));
    }
    let mut minimum: Vec<(String, f64)> =
        config.cluster_min_healthy_percentages.iter().map(|(name, least)| (name.clone(), least.value)).collect();
    minimum.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(HealthCheckFilter {
        name: name.to_owned(),
        pass_through,
        cache_time,
        cached: Mutex::default(),
        headers: each("headers", &config.headers, matchers::header)?,
        minimum,
    })
}
