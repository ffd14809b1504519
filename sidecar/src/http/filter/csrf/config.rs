//! `envoy.extensions.filters.http.csrf.v3.CsrfPolicy` → [`Policy`].

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::http::csrf::v3::CsrfPolicy;

use super::{Csrf, Policy};
use crate::config::{ConfigError, each};
use crate::matcher::config as matchers;
use crate::observe::stats::Scope;

/// Compiles the filter.
///
/// # Errors
/// An origin that is no matcher.
pub fn filter(name: &str, config: &CsrfPolicy, scope: &Scope) -> Result<Csrf, ConfigError> {
    let scope = scope.child("csrf");
    Ok(Csrf {
        name: name.to_owned(),
        policy: Arc::new(policy(config)?),
        missing: scope.counter("missing_source_origin"),
        invalid: scope.counter("request_invalid"),
        valid: scope.counter("request_valid"),
    })
}

/// Compiles a route's policy.
///
/// # Errors
/// As [`filter`].
pub fn policy(config: &CsrfPolicy) -> Result<Policy, ConfigError> {
    let share = |config: Option<_>| config.map_or(matchers::fraction(&Default::default()), matchers::runtime_fraction);
    Ok(Policy {
        enabled: share(config.filter_enabled.as_ref()),
        shadow: share(config.shadow_enabled.as_ref()),
        origins: each("additional_origins", &config.additional_origins, matchers::string)?,
    })
}
