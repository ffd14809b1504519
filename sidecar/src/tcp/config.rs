//! A chain's network filters → [`NetworkFilter`]s; `TcpProxy` and `RBAC` → what they do.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as RbacConfig;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as pb;

use envoy_types::pb::envoy::r#type::v3::HashPolicy;
use envoy_types::pb::envoy::r#type::v3::hash_policy::PolicySpecifier;

use super::proxy::{TcpProxy, TcpStats};
use super::rbac::NetworkRbac;
use crate::config::{ConfigError, Within, duration, each, limit, u32_or};
use crate::observe::stats::Scope;
use crate::rbac::config::rbac as rules;

/// Compiles a `TcpProxy`.
///
/// # Errors
/// A field that is not supported, or weights that add up to nothing.
pub fn tcp_proxy(config: &pb::TcpProxy) -> Result<TcpProxy, ConfigError> {
    use pb::tcp_proxy::ClusterSpecifier;
    let unsupported = [
        ("tunneling_config", config.tunneling_config.is_some()),
        ("on_demand", config.on_demand.is_some()),
        ("metadata_match", config.metadata_match.is_some()),
    ];
    if let Some((field, _)) = unsupported.iter().find(|(_, set)| *set) {
        return Err(ConfigError::at(*field, "is not supported yet"));
    }
    let clusters = match &config.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => vec![(name.as_str().into(), 1)],
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted.clusters.iter().map(|c| (c.name.as_str().into(), c.weight)).collect()
        }
        None => return Err(ConfigError::new("one of cluster, weighted_clusters is required")),
    };
    if clusters.iter().all(|(_, weight): &(Arc<str>, u32)| *weight == 0) {
        return Err(ConfigError::at("weighted_clusters", "the sum of weights must be greater than 0"));
    }
    let scope = Scope::root().child("tcp").tag("envoy_tcp_prefix", &config.stat_prefix);
    Ok(TcpProxy {
        clusters,
        idle_timeout: limit(config.idle_timeout.as_ref(), Some(Duration::from_secs(3600))),
        max_duration: duration(config.max_downstream_connection_duration.as_ref()),
        hash_source_ip: !each("hash_policy", &config.hash_policy, by_source_ip)?.is_empty(),
        connect_attempts: u32_or(config.max_connect_attempts.as_ref(), 1).max(1),
        access_logs: each("access_log", &config.access_log, crate::observe::access_log::config::access_log)?,
        stats: TcpStats {
            cx_total: scope.counter("downstream_cx_total"),
            cx_no_route: scope.counter("downstream_cx_no_route"),
            rx_bytes: scope.counter("downstream_cx_rx_bytes_total"),
            tx_bytes: scope.counter("downstream_cx_tx_bytes_total"),
            idle_timeout: scope.counter("idle_timeout"),
            max_duration: scope.counter("max_downstream_connection_duration"),
            upstream_flush_active: scope.gauge("upstream_flush_active"),
        },
    })
}

fn by_source_ip(config: &HashPolicy) -> Result<(), ConfigError> {
    match &config.policy_specifier {
        Some(PolicySpecifier::SourceIp(_)) => Ok(()),
        Some(PolicySpecifier::FilterState(_)) => Err(ConfigError::at("filter_state", "is not supported yet")),
        None => Err(ConfigError::new("one of source_ip, filter_state is required")),
    }
}

/// Compiles a network RBAC.
///
/// # Errors
/// Rules that can't be enforced.
pub fn rbac(config: &RbacConfig) -> Result<NetworkRbac, ConfigError> {
    if config.matcher.is_some() || config.shadow_matcher.is_some() {
        return Err(ConfigError::at("matcher", "matcher trees are not supported yet"));
    }
    let scope = match config.stat_prefix.trim_end_matches('.') {
        "" => Scope::root(),
        prefix => Scope::root().child(prefix),
    };
    let enforced = scope.child("rbac");
    let shadow = match config.shadow_rules_stat_prefix.trim_end_matches('.') {
        "" => enforced.clone(),
        prefix => enforced.child(prefix),
    };
    Ok(NetworkRbac {
        rules: config.rules.as_ref().map(rules).transpose().within("rules")?,
        shadow: config.shadow_rules.as_ref().map(rules).transpose().within("shadow_rules")?,
        allowed: enforced.counter("allowed"),
        denied: enforced.counter("denied"),
        shadow_allowed: shadow.counter("shadow_allowed"),
        shadow_denied: shadow.counter("shadow_denied"),
    })
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::r#type::v3::hash_policy::{FilterState, SourceIp};

    use super::*;

    fn check(policy: Option<PolicySpecifier>, expected: Result<bool, &str>) {
        let config = pb::TcpProxy {
            stat_prefix: "t".to_owned(),
            cluster_specifier: Some(pb::tcp_proxy::ClusterSpecifier::Cluster("db".to_owned())),
            hash_policy: policy.into_iter().map(|policy| HashPolicy { policy_specifier: Some(policy) }).collect(),
            ..Default::default()
        };
        let got = tcp_proxy(&config).map(|proxy| proxy.hash_source_ip).map_err(|e| e.to_string());
        assert_eq!(got, expected.map_err(str::to_owned));
    }

    #[test]
    fn hash_policies() {
        check(None, Ok(false));
        check(Some(PolicySpecifier::SourceIp(SourceIp {})), Ok(true));
        let state = PolicySpecifier::FilterState(FilterState { key: "k".to_owned() });
        check(Some(state), Err("hash_policy[0].filter_state: is not supported yet"));
    }
}
