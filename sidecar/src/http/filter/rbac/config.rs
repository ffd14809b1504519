//! `envoy.extensions.filters.http.rbac.v3.RBAC` → [`RbacFilter`].

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac as Config, RbacPerRoute};

use super::{RbacFilter, Rules};
use crate::config::{ConfigError, Within};
use crate::observe::stats::Scope;
use crate::rbac::config::rbac;

/// Compiles the filter. `scope` is the connection manager's.
///
/// # Errors
/// Rules that can't be enforced.
pub fn filter(name: &str, config: &Config, scope: &Scope) -> Result<RbacFilter, ConfigError> {
    let prefixed = |prefix: &str| match prefix {
        "" => scope.child("rbac"),
        prefix => scope.child("rbac").child(prefix.trim_end_matches('.')),
    };
    let (enforced, shadow) = (prefixed(&config.rules_stat_prefix), prefixed(&config.shadow_rules_stat_prefix));
    Ok(RbacFilter {
        name: name.to_owned(),
        rules: Arc::new(rules(config)?),
        allowed: enforced.counter("allowed"),
        denied: enforced.counter("denied"),
        shadow_allowed: shadow.counter("shadow_allowed"),
        shadow_denied: shadow.counter("shadow_denied"),
        shadow_prefix: config.shadow_rules_stat_prefix.clone(),
    })
}

fn rules(config: &Config) -> Result<Rules, ConfigError> {
    if config.matcher.is_some() || config.shadow_matcher.is_some() {
        return Err(ConfigError::at("matcher", "matcher trees are not supported yet"));
    }
    Ok(Rules {
        enforced: config.rules.as_ref().map(rbac).transpose().within("rules")?,
        shadow: config.shadow_rules.as_ref().map(rbac).transpose().within("shadow_rules")?,
    })
}

/// A route's own rules; none at all allow everything there.
///
/// # Errors
/// Rules that can't be enforced.
pub fn route_rules(config: &RbacPerRoute) -> Result<Rules, ConfigError> {
    config.rbac.as_ref().map_or_else(|| Ok(Rules::default()), |config| rules(config).within("rbac"))
}
