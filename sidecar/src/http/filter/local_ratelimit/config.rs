//! `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit` → [`RateLimitFilter`] and a route's [`Settings`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::XRateLimitHeadersRfcVersion;
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;

use super::{RateLimitFilter, Settings, Stats, TokenBucket};
use crate::config::{ConfigError, duration, each, u32_or};
use crate::matcher::Fraction;
use crate::matcher::config as matchers;
use crate::observe::stats::Scope;
use crate::route::HeaderOps;

/// Limits of connections, as they are made.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// Compiles the filter.
///
/// # Errors
/// A field that is not supported.
pub fn filter(name: &str, config: &LocalRateLimit) -> Result<RateLimitFilter, ConfigError> {
    Ok(RateLimitFilter { name: name.to_owned(), settings: Arc::new(settings(config)?) })
}

/// Compiles a route's limit.
///
/// # Errors
/// As [`filter`].
pub fn settings(config: &LocalRateLimit) -> Result<Settings, ConfigError> {
    let unsupported =
        [("descriptors", !config.descriptors.is_empty()), ("rate_limits", !config.rate_limits.is_empty())];
    if let Some((field, _)) = unsupported.iter().find(|(_, set)| *set) {
        return Err(ConfigError::at(*field, "is not supported yet"));
    }
    let bucket = config.token_bucket.as_ref().map(|bucket| {
        let interval = duration(bucket.fill_interval.as_ref()).filter(|d| *d >= Duration::from_millis(50));
        let interval = interval.ok_or_else(|| {
            ConfigError::at("token_bucket.fill_interval", "local rate limit token bucket fill timer must be >= 50ms")
        })?;
        Ok::<_, ConfigError>(TokenBucket::new(bucket.max_tokens, u32_or(bucket.tokens_per_fill.as_ref(), 1), interval))
    });
    let scope = Scope::root().child(&config.stat_prefix).child("http_local_rate_limit");
    let status = config.status.as_ref().map_or(429, |s| s.code);
    Ok(Settings {
        bucket: bucket.transpose()?,
        per_connection: config.local_rate_limit_per_downstream_connection.then(|| NUMBERS.fetch_add(1, Relaxed)),
        status: u16::try_from(status).ok().filter(|s| *s >= 400).unwrap_or(429),
        enabled: share(config.filter_enabled.as_ref()),
        enforced: share(config.filter_enforced.as_ref()),
        headers: HeaderOps {
            add_response: each(
                "response_headers_to_add",
                &config.response_headers_to_add,
                crate::route::config::add_header,
            )?,
            add_request: each(
                "request_headers_to_add_when_not_enforced",
                &config.request_headers_to_add_when_not_enforced,
                crate::route::config::add_header,
            )?,
            ..HeaderOps::default()
        },
        tells: config.enable_x_ratelimit_headers() == XRateLimitHeadersRfcVersion::DraftVersion03,
        resource_exhausted: config.rate_limited_as_resource_exhausted,
        stats: Stats {
            enabled: scope.counter("enabled"),
            enforced: scope.counter("enforced"),
            limited: scope.counter("rate_limited"),
            ok: scope.counter("ok"),
        },
    })
}

/// Absent: never.
fn share(config: Option<&RuntimeFractionalPercent>) -> Fraction {
    config.map_or(matchers::fraction(&Default::default()), matchers::runtime_fraction)
}
