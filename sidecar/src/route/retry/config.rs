//! `RetryPolicy` → [`RetryPolicy`].

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3 as pb;

use super::{RateLimitedBackOff, RetryOn, RetryPolicy};
use crate::config::{ConfigError, Within, duration, each, limit, type_name, u32_or};
use crate::matcher::config as matchers;

/// Compiles a retry policy.
///
/// # Errors
/// A back-off whose base is above its bound, or an unknown host predicate.
pub fn retry_policy(config: &pb::RetryPolicy) -> Result<RetryPolicy, ConfigError> {
    let defaults = RetryPolicy::default();
    let back_off = config.retry_back_off.unwrap_or_default();
    let base =
        duration(back_off.base_interval.as_ref()).unwrap_or(defaults.back_off_base).max(Duration::from_millis(1));
    let max = duration(back_off.max_interval.as_ref()).unwrap_or(base * 10);
    if max < base {
        return Err(ConfigError::at(
            "retry_back_off",
            "retry_policy.max_interval must greater than or equal to the base_interval",
        ));
    }
    let predicates = each("retry_host_predicate", &config.retry_host_predicate, host_predicate)?;
    Ok(RetryPolicy {
        retry_on: RetryOn::parse(&config.retry_on),
        num_retries: u32_or(config.num_retries.as_ref(), 1),
        per_try_timeout: limit(config.per_try_timeout.as_ref(), None),
        per_try_idle_timeout: limit(config.per_try_idle_timeout.as_ref(), None),
        retriable_status_codes: config.retriable_status_codes.iter().filter_map(|c| u16::try_from(*c).ok()).collect(),
        retriable_headers: each("retriable_headers", &config.retriable_headers, matchers::header)?,
        retriable_request_headers: each(
            "retriable_request_headers",
            &config.retriable_request_headers,
            matchers::header,
        )?,
        back_off_base: base,
        back_off_max: max,
        avoid_previous_hosts: predicates.contains(&true),
        avoid_priorities: config
            .retry_priority
            .as_ref()
            .map(retry_priority)
            .transpose()
            .within("retry_priority")?
            .unwrap_or(false),
        host_selection_attempts: u32::try_from(config.host_selection_retry_max_attempts).unwrap_or(1).max(1),
        rate_limited: config.rate_limited_retry_back_off.as_ref().map(|limited| {
            use pb::retry_policy::ResetHeaderFormat;
            RateLimitedBackOff {
                reset_headers: limited
                    .reset_headers
                    .iter()
                    .map(|h| (h.name.to_ascii_lowercase(), h.format() == ResetHeaderFormat::UnixTimestamp))
                    .collect(),
                max: duration(limited.max_interval.as_ref()).unwrap_or(Duration::from_secs(300)),
            }
        }),
    })
}

/// True for `previous_priorities`, the only one there is.
fn retry_priority(config: &pb::retry_policy::RetryPriority) -> Result<bool, ConfigError> {
    use pb::retry_policy::retry_priority::ConfigType;
    let kind = match &config.config_type {
        Some(ConfigType::TypedConfig(any)) => type_name(any),
        None => config.name.as_str(),
    };
    match kind {
        "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
        | "envoy.retry_priorities.previous_priorities" => Ok(true),
        other => Err(ConfigError::new(format!(
            "Didn't find a registered implementation for '{}' with type URL: '{other}'",
            config.name
        ))),
    }
}

/// True for `previous_hosts`; other known predicates change nothing here.
fn host_predicate(config: &pb::retry_policy::RetryHostPredicate) -> Result<bool, ConfigError> {
    use pb::retry_policy::retry_host_predicate::ConfigType;
    let kind = match &config.config_type {
        Some(ConfigType::TypedConfig(any)) => type_name(any),
        None => config.name.as_str(),
    };
    match kind {
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
        | "envoy.retry_host_predicates.previous_hosts" => Ok(true),
        "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate"
        | "envoy.retry_host_predicates.omit_canary_hosts" => Ok(false),
        other => Err(ConfigError::new(format!(
            "Didn't find a registered implementation for '{}' with type URL: '{other}'",
            config.name
        ))),
    }
}
