//! A route's action → [`Action`]; what Envoy refuses is refused here with the field's path.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as pb;

use super::{
    Action, ClusterChoice, Direct, HashPolicy, HashSource, Mirror, MirrorTo, RouteAction, StreamDuration,
    WeightedCluster, WeightedClusters,
};
use crate::config::{ConfigError, Within, bool_or, duration, each, limit, metadata, u32_or};
use crate::http::upgrade::Upgrade;
use crate::matcher::config as matchers;
use crate::route::PathMatch;
use crate::route::config::Scope;
use crate::route::headers::config::ops;
use crate::route::internal_redirect::config::internal_redirects;
use crate::route::retry::RetryPolicy;
use crate::route::retry::config::retry_policy;
use crate::route::rewrite::config::{host_rewrite, path_rewrite, redirect};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// Compiles what a route does.
///
/// # Errors
/// A field that Envoy refuses, or that is not supported.
pub fn action(
    config: &pb::Route,
    matched: &PathMatch,
    host: &pb::VirtualHost,
    retry: Option<&Arc<RetryPolicy>>,
    scope: &Scope<'_>,
) -> Result<Action, ConfigError> {
    match &config.action {
        Some(pb::route::Action::Route(action)) => {
            forward(action, matched, host, retry, scope).map(|a| Action::Forward(Box::new(a))).within("route")
        }
        Some(pb::route::Action::Redirect(action)) => redirect(action).map(Action::Redirect).within("redirect"),
        Some(pb::route::Action::DirectResponse(direct)) => direct_response(direct).within("direct_response"),
        Some(pb::route::Action::NonForwardingAction(_)) => Ok(Action::NonForwarding),
        Some(pb::route::Action::FilterAction(_)) => Err(ConfigError::at("filter_action", "is not supported")),
        None => Err(ConfigError::new("one of route, redirect, direct_response is required")),
    }
}

fn direct_response(config: &pb::DirectResponseAction) -> Result<Action, ConfigError> {
    let status = match config.status {
        status @ 200..=599 => status as u16,
        status => return Err(ConfigError::at("status", format!("{status} is not from 200 to 599"))),
    };
    let body = match &config.body {
        None => String::new(),
        Some(source) => {
            let bytes = crate::config::data_source(source).within("body")?;
            String::from_utf8(bytes).map_err(|_| ConfigError::at("body", "is not UTF-8"))?
        }
    };
    Ok(Action::Direct(Direct { status, body }))
}

fn forward(
    config: &pb::RouteAction,
    matched: &PathMatch,
    host: &pb::VirtualHost,
    retry: Option<&Arc<RetryPolicy>>,
    scope: &Scope<'_>,
) -> Result<RouteAction, ConfigError> {
    let own_retry = config.retry_policy.as_ref().map(retry_policy).transpose().within("retry_policy")?;
    Ok(RouteAction {
        cluster: cluster_choice(config, scope)?,
        cluster_not_found_status: match config.cluster_not_found_response_code() {
            pb::route_action::ClusterNotFoundResponseCode::ServiceUnavailable => 503,
            pb::route_action::ClusterNotFoundResponseCode::NotFound => 404,
            pb::route_action::ClusterNotFoundResponseCode::InternalServerError => 500,
        },
        path: path_rewrite(config, matched)?,
        host: host_rewrite(config)?,
        append_x_forwarded_host: config.append_x_forwarded_host,
        timeout: match &config.max_stream_duration {
            // Who bounds the whole stream does not want the older limit's default.
            Some(_) => None,
            None => limit(config.timeout.as_ref(), Some(DEFAULT_TIMEOUT)),
        },
        idle_timeout: config.idle_timeout.as_ref().map(|d| duration(Some(d)).filter(|d| !d.is_zero())),
        retry: own_retry.map(Arc::new).or_else(|| retry.cloned()),
        duration: stream_duration(config),
        hedge: config.hedge_policy.as_ref().or(host.hedge_policy.as_ref()).is_some_and(|h| h.hedge_on_per_try_timeout),
        mirrors: mirrors(config, host, scope)?,
        redirects: internal_redirects(config)?.map(Arc::new),
        upgrades: upgrades(config)?,
        hash: config.hash_policy.iter().filter_map(hash_policy).collect(),
        metadata_match: lb_metadata(config.metadata_match.as_ref()),
        high_priority: config.priority() == core::RoutingPriority::High,
    })
}

fn lb_metadata(config: Option<&core::Metadata>) -> Option<Arc<crate::stream::Metadata>> {
    let all = metadata(config);
    (!all.is_empty()).then(|| Arc::new(all))
}

fn cluster_choice(config: &pb::RouteAction, scope: &Scope<'_>) -> Result<ClusterChoice, ConfigError> {
    use pb::route_action::ClusterSpecifier;
    let known = |name: &str| {
        if scope.validate_clusters && !(scope.cluster_exists)(name) {
            return Err(ConfigError::new(format!("route: unknown cluster '{name}'")));
        }
        Ok(Arc::<str>::from(name))
    };
    match &config.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => Ok(ClusterChoice::Cluster(known(name).within("cluster")?)),
        Some(ClusterSpecifier::ClusterHeader(name)) => Ok(ClusterChoice::Header(name.to_ascii_lowercase())),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted_clusters(weighted, scope, &known).map(ClusterChoice::Weighted).within("weighted_clusters")
        }
        Some(_) => Err(ConfigError::new("cluster specifier plugins are not supported")),
        None => Err(ConfigError::new("one of cluster, cluster_header, weighted_clusters is required")),
    }
}

fn weighted_clusters(
    config: &pb::WeightedCluster,
    scope: &Scope<'_>,
    known: &dyn Fn(&str) -> Result<Arc<str>, ConfigError>,
) -> Result<WeightedClusters, ConfigError> {
    let clusters = each("clusters", &config.clusters, |c| {
        use pb::weighted_cluster::cluster_weight::HostRewriteSpecifier;
        Ok(WeightedCluster {
            name: if c.cluster_header.is_empty() { known(&c.name).within("name")? } else { "".into() },
            header: (!c.cluster_header.is_empty()).then(|| c.cluster_header.to_ascii_lowercase()),
            weight: runtime_weight(&config.runtime_key_prefix, &c.name).unwrap_or_else(|| u32_or(c.weight.as_ref(), 0)),
            ops: ops(
                &c.request_headers_to_add,
                &c.request_headers_to_remove,
                &c.response_headers_to_add,
                &c.response_headers_to_remove,
            )?,
            host: c.host_rewrite_specifier.as_ref().map(|HostRewriteSpecifier::HostRewriteLiteral(h)| h.clone()),
            metadata_match: lb_metadata(c.metadata_match.as_ref()),
            filters: crate::route::config::filters(&c.typed_per_filter_config, scope)?,
        })
    })?;
    let total = clusters.iter().map(|c| u64::from(c.weight)).sum();
    if total == 0 {
        return Err(ConfigError::at("clusters", "Sum of weights in the weighted_cluster must be greater than 0."));
    }
    use pb::weighted_cluster::RandomValueSpecifier;
    let header = match &config.random_value_specifier {
        Some(RandomValueSpecifier::HeaderName(name)) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    Ok(WeightedClusters { clusters, total, header })
}

fn runtime_weight(prefix: &str, cluster: &str) -> Option<u32> {
    if prefix.is_empty() {
        return None;
    }
    crate::runtime::number(&format!("{prefix}.{cluster}")).and_then(|weight| u32::try_from(weight).ok())
}

fn hash_policy(config: &pb::route_action::HashPolicy) -> Option<HashPolicy> {
    use pb::route_action::hash_policy::PolicySpecifier;
    let source = match config.policy_specifier.as_ref()? {
        PolicySpecifier::Header(header) => HashSource::Header(header.header_name.to_ascii_lowercase()),
        PolicySpecifier::Cookie(cookie) => HashSource::Cookie {
            name: cookie.name.clone(),
            ttl: duration(cookie.ttl.as_ref()),
            path: cookie.path.clone(),
        },
        PolicySpecifier::ConnectionProperties(properties) if properties.source_ip => HashSource::SourceIp,
        PolicySpecifier::QueryParameter(query) => HashSource::Query(query.name.clone()),
        PolicySpecifier::ConnectionProperties(_) | PolicySpecifier::FilterState(_) => return None,
    };
    Some(HashPolicy { source, terminal: config.terminal })
}

#[allow(deprecated)] // `max_grpc_timeout` is what older control planes send.
fn stream_duration(config: &pb::RouteAction) -> Option<StreamDuration> {
    let zero_is_none = |d| duration(d).map(|d| Some(d).filter(|d| !d.is_zero()));
    if let Some(limits) = &config.max_stream_duration {
        return Some(StreamDuration {
            max: zero_is_none(limits.max_stream_duration.as_ref()),
            grpc_max: zero_is_none(limits.grpc_timeout_header_max.as_ref()),
            grpc_offset: duration(limits.grpc_timeout_header_offset.as_ref()).unwrap_or_default(),
        });
    }
    let grpc_max = zero_is_none(config.max_grpc_timeout.as_ref());
    grpc_max.is_some().then(|| StreamDuration {
        max: None,
        grpc_max,
        grpc_offset: duration(config.grpc_timeout_offset.as_ref()).unwrap_or_default(),
    })
}

/// The route's mirrors go before the virtual host's.
fn mirrors(config: &pb::RouteAction, host: &pb::VirtualHost, scope: &Scope<'_>) -> Result<Vec<Mirror>, ConfigError> {
    let policies = match config.request_mirror_policies.as_slice() {
        [] => &host.request_mirror_policies,
        own => own,
    };
    each("request_mirror_policies", policies, |policy| {
        let cluster = match (policy.cluster.as_str(), policy.cluster_header.as_str()) {
            ("", "") => return Err(ConfigError::new("one of cluster, cluster_header is required")),
            ("", header) => MirrorTo::Header(header.to_ascii_lowercase()),
            (name, _) if scope.validate_clusters && !(scope.cluster_exists)(name) => {
                return Err(ConfigError::at("cluster", format!("route: unknown shadow cluster '{name}'")));
            }
            (name, _) => MirrorTo::Cluster(name.into()),
        };
        if !policy.request_headers_mutations.is_empty() {
            return Err(ConfigError::at("request_headers_mutations", "is not supported yet"));
        }
        Ok(Mirror {
            cluster,
            fraction: policy.runtime_fraction.as_ref().map(matchers::runtime_fraction),
            mark_host: !policy.disable_shadow_host_suffix_append,
            host: (!policy.host_rewrite_literal.is_empty()).then(|| policy.host_rewrite_literal.clone()),
        })
    })
}

fn upgrades(config: &pb::RouteAction) -> Result<Vec<Upgrade>, ConfigError> {
    each("upgrade_configs", &config.upgrade_configs, |upgrade| {
        let kind = upgrade.upgrade_type.to_ascii_lowercase();
        if upgrade.connect_config.is_some() && kind != "connect" {
            return Err(ConfigError::at("connect_config", "Non-CONNECT upgrade type has ConnectConfig"));
        }
        let connect = upgrade.connect_config.as_ref();
        if connect.is_some_and(|connect| connect.proxy_protocol_config.is_some()) {
            return Err(ConfigError::at("connect_config.proxy_protocol_config", "is not supported yet"));
        }
        Ok(Upgrade { kind, enabled: bool_or(upgrade.enabled.as_ref(), true), terminate: connect.is_some() })
    })
}
