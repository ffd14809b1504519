//! `envoy.extensions.filters.http.cors.v3.CorsPolicy` → a route's [`Policy`].

use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use http::HeaderValue;

use super::{Cors, Policy};
use crate::config::{ConfigError, bool_or, each};
use crate::matcher::Fraction;
use crate::matcher::config as matchers;
use crate::observe::stats::Scope;

const ALWAYS: Fraction = Fraction { numerator: 100, denominator: 100 };
const NEVER: Fraction = Fraction { numerator: 0, denominator: 100 };

/// The filter itself has no settings: routes have.
pub fn filter(name: &str, scope: &Scope) -> Cors {
    let scope = scope.child("cors");
    Cors { name: name.to_owned(), valid: scope.counter("origin_valid"), invalid: scope.counter("origin_invalid") }
}

/// Compiles a route's policy.
///
/// # Errors
/// An origin that is no matcher, or a value that no header can have.
pub fn policy(config: &CorsPolicy) -> Result<Policy, ConfigError> {
    let header = |field: &str, value: &str| match value {
        "" => Ok(None),
        value => HeaderValue::from_str(value).map(Some).map_err(|_| ConfigError::at(field, "is no header value")),
    };
    Ok(Policy {
        origins: each("allow_origin_string_match", &config.allow_origin_string_match, matchers::string)?,
        methods: header("allow_methods", &config.allow_methods)?,
        headers: header("allow_headers", &config.allow_headers)?,
        expose: header("expose_headers", &config.expose_headers)?,
        max_age: header("max_age", &config.max_age)?,
        credentials: bool_or(config.allow_credentials.as_ref(), false),
        private_network: bool_or(config.allow_private_network_access.as_ref(), false),
        forward_others: bool_or(config.forward_not_matching_preflights.as_ref(), true),
        enabled: config.filter_enabled.as_ref().map_or(ALWAYS, matchers::runtime_fraction),
        shadow: config.shadow_enabled.as_ref().map_or(NEVER, matchers::runtime_fraction),
    })
}
