//! `LbSubsetConfig` → [`Subsets`].

use envoy_types::pb::envoy::config::cluster::v3::cluster::LbSubsetConfig;
use envoy_types::pb::envoy::config::cluster::v3::cluster::lb_subset_config as pb;

use super::{Fallback, Selector, Subsets};
use crate::config::{ConfigError, each, json_value};
use crate::observe::stats::Scope;

/// Compiles a cluster's subsets.
///
/// # Errors
/// A way of choosing that is not supported.
pub fn subsets(config: &LbSubsetConfig, scope: &Scope) -> Result<Subsets, ConfigError> {
    let unsupported = [
        ("locality_weight_aware", config.locality_weight_aware),
        ("scale_locality_weight", config.scale_locality_weight),
        ("panic_mode_any", config.panic_mode_any),
        ("list_as_any", config.list_as_any),
        ("metadata_fallback_policy", config.metadata_fallback_policy != 0),
    ];
    if let Some((field, _)) = unsupported.iter().find(|(_, set)| *set) {
        return Err(ConfigError::at(*field, "is not supported yet"));
    }
    let fallback = match config.fallback_policy() {
        pb::LbSubsetFallbackPolicy::NoFallback => Fallback::None,
        pb::LbSubsetFallbackPolicy::AnyEndpoint => Fallback::Any,
        pb::LbSubsetFallbackPolicy::DefaultSubset => Fallback::DefaultSubset,
    };
    let default_subset = config.default_subset.clone().unwrap_or_default();
    Ok(Subsets {
        fallback,
        default_subset: default_subset.fields.iter().map(|(key, value)| (key.clone(), json_value(value))).collect(),
        selectors: each("subset_selectors", &config.subset_selectors, selector)?,
        selected: scope.counter("lb_subsets_selected"),
        fallen_back: scope.counter("lb_subsets_fallback"),
    })
}

fn selector(config: &pb::LbSubsetSelector) -> Result<Selector, ConfigError> {
    use pb::lb_subset_selector::LbSubsetSelectorFallbackPolicy as Kind;
    if config.single_host_per_subset {
        return Err(ConfigError::at("single_host_per_subset", "is not supported yet"));
    }
    let fallback = match config.fallback_policy() {
        Kind::NotDefined => None,
        Kind::NoFallback => Some(Fallback::None),
        Kind::AnyEndpoint => Some(Fallback::Any),
        Kind::DefaultSubset => Some(Fallback::DefaultSubset),
        Kind::KeysSubset => return Err(ConfigError::at("fallback_policy", "KEYS_SUBSET is not supported yet")),
    };
    let mut keys = config.keys.clone();
    keys.sort();
    Ok(Selector { keys, fallback })
}
