//! `OutlierDetection` → [`OutlierRules`].

use envoy_types::pb::envoy::config::cluster::v3::OutlierDetection;
use envoy_types::pb::google::protobuf::UInt32Value;

use super::{OutlierRules, RateRule};
use crate::config::{bool_or, duration, u32_or};

/// Compiles a cluster's rules.
pub fn outlier_rules(config: &OutlierDetection) -> OutlierRules {
    let defaults = OutlierRules::default();
    let percent = |value: Option<&UInt32Value>, default: u32| u32_or(value, default).min(100);
    let base_ejection = duration(config.base_ejection_time.as_ref()).unwrap_or(defaults.base_ejection);
    OutlierRules {
        consecutive_5xx: u32_or(config.consecutive_5xx.as_ref(), defaults.consecutive_5xx),
        consecutive_gateway: u32_or(config.consecutive_gateway_failure.as_ref(), defaults.consecutive_gateway),
        consecutive_local: u32_or(config.consecutive_local_origin_failure.as_ref(), defaults.consecutive_local),
        split_local: config.split_external_local_origin_errors,
        interval: duration(config.interval.as_ref()).filter(|d| !d.is_zero()).unwrap_or(defaults.interval),
        base_ejection,
        max_ejection: duration(config.max_ejection_time.as_ref()).unwrap_or(defaults.max_ejection.max(base_ejection)),
        max_jitter: duration(config.max_ejection_time_jitter.as_ref()).unwrap_or(defaults.max_jitter),
        max_ejected: percent(config.max_ejection_percent.as_ref(), defaults.max_ejected),
        always_one: bool_or(config.always_eject_one_host.as_ref(), defaults.always_one),
        enforce_5xx: percent(config.enforcing_consecutive_5xx.as_ref(), defaults.enforce_5xx),
        enforce_gateway: percent(config.enforcing_consecutive_gateway_failure.as_ref(), defaults.enforce_gateway),
        enforce_local: percent(config.enforcing_consecutive_local_origin_failure.as_ref(), defaults.enforce_local),
        success_rate: RateRule {
            enforce: percent(config.enforcing_success_rate.as_ref(), defaults.success_rate.enforce),
            minimum_hosts: u32_or(config.success_rate_minimum_hosts.as_ref(), defaults.success_rate.minimum_hosts),
            request_volume: u32_or(config.success_rate_request_volume.as_ref(), defaults.success_rate.request_volume),
        },
        local_success_rate: percent(config.enforcing_local_origin_success_rate.as_ref(), defaults.local_success_rate),
        stdev_factor: u32_or(config.success_rate_stdev_factor.as_ref(), defaults.stdev_factor),
        failure_percentage: RateRule {
            enforce: percent(config.enforcing_failure_percentage.as_ref(), defaults.failure_percentage.enforce),
            minimum_hosts: u32_or(
                config.failure_percentage_minimum_hosts.as_ref(),
                defaults.failure_percentage.minimum_hosts,
            ),
            request_volume: u32_or(
                config.failure_percentage_request_volume.as_ref(),
                defaults.failure_percentage.request_volume,
            ),
        },
        local_failure_percentage: percent(
            config.enforcing_failure_percentage_local_origin.as_ref(),
            defaults.local_failure_percentage,
        ),
        failure_threshold: percent(config.failure_percentage_threshold.as_ref(), defaults.failure_threshold),
        checks_forgive: bool_or(config.successful_active_health_check_uneject_host.as_ref(), defaults.checks_forgive),
    }
}
