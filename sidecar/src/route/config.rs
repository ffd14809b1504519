//! `RouteConfiguration` → [`RouteTable`]; what Envoy refuses is refused here with the field's path.

use std::any::Any as StdAny;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::google::protobuf;
use http::header::HeaderName;

use super::action::{
    Action, ClusterChoice, Direct, HashPolicy, HashSource, HostRewrite, PathRewrite, Redirect, RouteAction,
    WeightedCluster, WeightedClusters,
};
use super::headers::{AddHeader, Append, HeaderOps};
use super::prefixes::RouteIndex;
use super::retry::{RateLimitedBackOff, RetryOn, RetryPolicy};
use super::{FilterConfigs, PathMatch, Route, RouteTable, TlsMatch, VirtualHost};
use crate::config::{ConfigError, Within, bool_or, duration, each, limit, metadata, type_name, u32_or};
use crate::format::Format;
use crate::matcher::config as matchers;

/// Compiles a filter's per-route settings; `None`: the filter is not known and may be ignored.
pub type CompileFilter<'a> =
    &'a dyn Fn(&str, &protobuf::Any) -> Result<Option<Arc<dyn StdAny + Send + Sync>>, ConfigError>;

/// What compiling a table looks up.
pub struct Scope<'a> {
    /// Does a cluster exist? Asked where `validate_clusters` is set.
    pub cluster_exists: &'a dyn Fn(&str) -> bool,
    /// Inline tables validate their clusters unless told otherwise; discovered ones don't.
    pub validate_clusters: bool,
    pub filter: CompileFilter<'a>,
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// Compiles a route table.
///
/// # Errors
/// A field that Envoy refuses, or that is not supported.
pub fn route_table(config: &pb::RouteConfiguration, scope: &Scope<'_>) -> Result<RouteTable, ConfigError> {
    let mut table = RouteTable {
        name: config.name.clone(),
        exact: HashMap::default(),
        suffixes: Vec::new(),
        prefixes: Vec::new(),
        catch_all: None,
        ignore_port: config.ignore_port_in_host_matching,
        ops: ops(
            &config.request_headers_to_add,
            &config.request_headers_to_remove,
            &config.response_headers_to_add,
            &config.response_headers_to_remove,
        )?,
        most_specific_wins: config.most_specific_header_mutations_wins,
        filters: filters(&config.typed_per_filter_config, scope)?,
    };
    let validate = bool_or(config.validate_clusters.as_ref(), scope.validate_clusters);
    let inner = Scope { validate_clusters: validate, ..*scope };
    for (i, config) in config.virtual_hosts.iter().enumerate() {
        let host = Arc::new(virtual_host(config, &inner).within(&format!("virtual_hosts[{i}]"))?);
        for domain in &config.domains {
            table.add_domain(domain, &host).within(&format!("virtual_hosts[{i}].domains"))?;
        }
    }
    table.suffixes.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    table.prefixes.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    Ok(table)
}

impl RouteTable {
    fn add_domain(&mut self, domain: &str, host: &Arc<VirtualHost>) -> Result<(), ConfigError> {
        let domain = domain.to_ascii_lowercase();
        let taken = if domain == "*" {
            self.catch_all.replace(host.clone()).is_some()
        } else if let Some(suffix) = domain.strip_prefix('*') {
            insert_unique(&mut self.suffixes, suffix, host)
        } else if let Some(prefix) = domain.strip_suffix('*') {
            insert_unique(&mut self.prefixes, prefix, host)
        } else {
            self.exact.insert(domain.clone(), host.clone()).is_some()
        };
        if taken {
            let what = if domain == "*" {
                "Only a single wildcard domain is permitted"
            } else {
                "Only unique values for domains are permitted"
            };
            return Err(ConfigError::new(format!("{what}. Duplicate entry of domain {domain} in route {}", self.name)));
        }
        Ok(())
    }
}

fn insert_unique(list: &mut Vec<(String, Arc<VirtualHost>)>, text: &str, host: &Arc<VirtualHost>) -> bool {
    let taken = list.iter().any(|(known, _)| known == text);
    list.push((text.to_owned(), host.clone()));
    taken
}

fn filters(config: &HashMap<String, protobuf::Any>, scope: &Scope<'_>) -> Result<FilterConfigs, ConfigError> {
    let sorted: BTreeMap<_, _> = config.iter().collect();
    let mut compiled = FilterConfigs::new();
    for (name, any) in sorted {
        if let Some(settings) = (scope.filter)(name, any).within(&format!("typed_per_filter_config[{name}]"))? {
            compiled.insert(name.clone(), settings);
        }
    }
    Ok(compiled)
}

fn virtual_host(config: &pb::VirtualHost, scope: &Scope<'_>) -> Result<VirtualHost, ConfigError> {
    if config.domains.is_empty() {
        return Err(ConfigError::at("domains", "value must contain at least 1 item(s)"));
    }
    let unsupported = [
        ("matcher", config.matcher.is_some()),
        ("require_tls", config.require_tls != 0),
        ("request_mirror_policies", !config.request_mirror_policies.is_empty()),
    ];
    if let Some((field, _)) = unsupported.iter().find(|(_, set)| *set) {
        return Err(ConfigError::at(*field, "is not supported yet"));
    }
    let retry = config.retry_policy.as_ref().map(retry_policy).transpose().within("retry_policy")?.map(Arc::new);
    let routes = each("routes", &config.routes, |r| route(r, retry.as_ref(), config, scope).map(Arc::new))?;
    Ok(VirtualHost {
        name: config.name.as_str().into(),
        routes: RouteIndex::new(routes),
        ops: ops(
            &config.request_headers_to_add,
            &config.request_headers_to_remove,
            &config.response_headers_to_add,
            &config.response_headers_to_remove,
        )?,
        attempt_count_to_upstream: config.include_request_attempt_count,
        attempt_count_to_downstream: config.include_attempt_count_in_response,
        filters: filters(&config.typed_per_filter_config, scope)?,
    })
}

fn route(
    config: &pb::Route,
    retry: Option<&Arc<RetryPolicy>>,
    host: &pb::VirtualHost,
    scope: &Scope<'_>,
) -> Result<Route, ConfigError> {
    let matching = config.r#match.clone().ok_or_else(|| ConfigError::at("match", "value is required"))?;
    let case_sensitive = bool_or(matching.case_sensitive.as_ref(), true);
    let grpc_only = matching.grpc.is_some();
    if !matching.dynamic_metadata.is_empty() || !matching.filter_state.is_empty() {
        return Err(ConfigError::at("match", "dynamic_metadata and filter_state are not supported"));
    }
    let fraction = matching.runtime_fraction.as_ref().and_then(|f| f.default_value.as_ref()).map(matchers::fraction);
    #[allow(deprecated)] // What older control planes send.
    let buffer = config.per_request_buffer_limit_bytes.as_ref().or(host.per_request_buffer_limit_bytes.as_ref());
    Ok(Route {
        name: (!config.name.is_empty()).then(|| config.name.as_str().into()),
        path: path_match(&matching).within("match")?,
        case_sensitive,
        headers: each("match.headers", &matching.headers, matchers::header)?,
        queries: each("match.query_parameters", &matching.query_parameters, matchers::query)?,
        cookies: each("match.cookies", &matching.cookies, |c| {
            let matcher =
                c.string_match.as_ref().ok_or_else(|| ConfigError::at("string_match", "value is required"))?;
            Ok((c.name.clone(), matchers::string(matcher)?, c.invert_match))
        })?,
        grpc_only,
        tls: matching.tls_context.as_ref().map(|tls| TlsMatch {
            presented: tls.presented.as_ref().map(|v| v.value),
            validated: tls.validated.as_ref().map(|v| v.value),
        }),
        fraction,
        action: action(config, retry, scope)?,
        ops: ops(
            &config.request_headers_to_add,
            &config.request_headers_to_remove,
            &config.response_headers_to_add,
            &config.response_headers_to_remove,
        )?,
        operation: config.decorator.as_ref().map(|d| d.operation.clone()).filter(|o| !o.is_empty()),
        retry_buffer_limit: buffer.map(|v| v.value as usize),
        filters: filters(&config.typed_per_filter_config, scope)?,
    })
}

fn path_match(config: &pb::RouteMatch) -> Result<PathMatch, ConfigError> {
    use pb::route_match::PathSpecifier;
    match &config.path_specifier {
        Some(PathSpecifier::Prefix(text)) => Ok(PathMatch::Prefix(text.clone())),
        Some(PathSpecifier::Path(text)) => Ok(PathMatch::Exact(text.clone())),
        Some(PathSpecifier::PathSeparatedPrefix(text)) => Ok(PathMatch::SeparatedPrefix(text.clone())),
        Some(PathSpecifier::SafeRegex(regex)) => {
            matchers::full_regex(&regex.regex).map(PathMatch::Regex).within("safe_regex")
        }
        Some(PathSpecifier::ConnectMatcher(_)) => Ok(PathMatch::Connect),
        Some(PathSpecifier::PathMatchPolicy(_)) => {
            Err(ConfigError::at("path_match_policy", "path templates are not supported"))
        }
        None => {
            Err(ConfigError::new("one of prefix, path, safe_regex, connect_matcher, path_separated_prefix is required"))
        }
    }
}

fn action(config: &pb::Route, retry: Option<&Arc<RetryPolicy>>, scope: &Scope<'_>) -> Result<Action, ConfigError> {
    match &config.action {
        Some(pb::route::Action::Route(action)) => {
            forward(action, retry, scope).map(|a| Action::Forward(Box::new(a))).within("route")
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

fn redirect(config: &pb::RedirectAction) -> Result<Redirect, ConfigError> {
    use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let (mut path, mut rewrite) = (None, PathRewrite::Keep);
    match &config.path_rewrite_specifier {
        None => {}
        Some(PathRewriteSpecifier::PathRedirect(to)) => path = Some(to.clone()),
        Some(PathRewriteSpecifier::PrefixRewrite(to)) => rewrite = PathRewrite::Prefix(to.clone()),
        Some(PathRewriteSpecifier::RegexRewrite(r)) => {
            let regex = matchers::search_regex(r.pattern.as_ref()).within("regex_rewrite.pattern")?;
            rewrite = PathRewrite::Regex(regex, matchers::substitution(&r.substitution));
        }
        Some(PathRewriteSpecifier::PathRewrite(_)) => {
            return Err(ConfigError::at("path_rewrite", "formatted paths are not supported"));
        }
    }
    Ok(Redirect {
        status: match config.response_code() {
            RedirectResponseCode::MovedPermanently => 301,
            RedirectResponseCode::Found => 302,
            RedirectResponseCode::SeeOther => 303,
            RedirectResponseCode::TemporaryRedirect => 307,
            RedirectResponseCode::PermanentRedirect => 308,
        },
        https: matches!(config.scheme_rewrite_specifier, Some(SchemeRewriteSpecifier::HttpsRedirect(true))),
        scheme: match &config.scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(scheme.clone()),
            _ => None,
        },
        host: (!config.host_redirect.is_empty()).then(|| config.host_redirect.clone()),
        port: u16::try_from(config.port_redirect).ok().filter(|p| *p != 0),
        path,
        rewrite,
        strip_query: config.strip_query,
    })
}

fn forward(
    config: &pb::RouteAction,
    retry: Option<&Arc<RetryPolicy>>,
    scope: &Scope<'_>,
) -> Result<RouteAction, ConfigError> {
    let own_retry = config.retry_policy.as_ref().map(retry_policy).transpose().within("retry_policy")?;
    let unsupported = [
        ("request_mirror_policies", !config.request_mirror_policies.is_empty()),
        ("max_stream_duration", config.max_stream_duration.is_some()),
        ("internal_redirect_policy", config.internal_redirect_policy.is_some()),
        ("upgrade_configs", !config.upgrade_configs.is_empty()),
        ("hedge_policy", config.hedge_policy.is_some()),
    ];
    if let Some((field, _)) = unsupported.iter().find(|(_, set)| *set) {
        return Err(ConfigError::at(*field, "is not supported yet"));
    }
    Ok(RouteAction {
        cluster: cluster_choice(config, scope)?,
        cluster_not_found_status: match config.cluster_not_found_response_code() {
            pb::route_action::ClusterNotFoundResponseCode::ServiceUnavailable => 503,
            pb::route_action::ClusterNotFoundResponseCode::NotFound => 404,
            pb::route_action::ClusterNotFoundResponseCode::InternalServerError => 500,
        },
        path: path_rewrite(config)?,
        host: host_rewrite(config)?,
        append_x_forwarded_host: config.append_x_forwarded_host,
        timeout: limit(config.timeout.as_ref(), Some(DEFAULT_TIMEOUT)),
        idle_timeout: config.idle_timeout.as_ref().map(|d| duration(Some(d)).filter(|d| !d.is_zero())),
        retry: own_retry.map(Arc::new).or_else(|| retry.cloned()),
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
            weight: u32_or(c.weight.as_ref(), 0),
            ops: ops(
                &c.request_headers_to_add,
                &c.request_headers_to_remove,
                &c.response_headers_to_add,
                &c.response_headers_to_remove,
            )?,
            host: c.host_rewrite_specifier.as_ref().map(|HostRewriteSpecifier::HostRewriteLiteral(h)| h.clone()),
            metadata_match: lb_metadata(c.metadata_match.as_ref()),
            filters: filters(&c.typed_per_filter_config, scope)?,
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

fn path_rewrite(config: &pb::RouteAction) -> Result<PathRewrite, ConfigError> {
    if let Some(rewrite) = &config.regex_rewrite {
        let regex = matchers::search_regex(rewrite.pattern.as_ref()).within("regex_rewrite.pattern")?;
        return Ok(PathRewrite::Regex(regex, matchers::substitution(&rewrite.substitution)));
    }
    if !config.prefix_rewrite.is_empty() {
        return Ok(PathRewrite::Prefix(config.prefix_rewrite.clone()));
    }
    if config.path_rewrite_policy.is_some() || !config.path_rewrite.is_empty() {
        return Err(ConfigError::at("path_rewrite", "formatted and templated rewrites are not supported"));
    }
    Ok(PathRewrite::Keep)
}

fn host_rewrite(config: &pb::RouteAction) -> Result<HostRewrite, ConfigError> {
    use pb::route_action::HostRewriteSpecifier;
    Ok(match &config.host_rewrite_specifier {
        None => HostRewrite::Keep,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => HostRewrite::Literal(host.clone()),
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => HostRewrite::Header(name.to_ascii_lowercase()),
        Some(HostRewriteSpecifier::AutoHostRewrite(on)) if on.value => {
            return Err(ConfigError::at("auto_host_rewrite", "is not supported yet"));
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(_)) => HostRewrite::Keep,
        Some(HostRewriteSpecifier::HostRewritePathRegex(r)) => HostRewrite::PathRegex(
            matchers::search_regex(r.pattern.as_ref()).within("host_rewrite_path_regex.pattern")?,
            matchers::substitution(&r.substitution),
        ),
        Some(HostRewriteSpecifier::HostRewrite(_)) => {
            return Err(ConfigError::at("host_rewrite", "formatted host rewrites are not supported"));
        }
    })
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

fn ops(
    add_request: &[core::HeaderValueOption],
    remove_request: &[String],
    add_response: &[core::HeaderValueOption],
    remove_response: &[String],
) -> Result<HeaderOps, ConfigError> {
    let names = |list: &[String], field: &str| {
        each(field, list, |name| {
            if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
                return Err(ConfigError::new(":-prefixed or host headers may not be removed"));
            }
            header_name(name)
        })
    };
    let mut request_authority = None;
    let mut adds = Vec::new();
    for (i, option) in add_request.iter().enumerate() {
        let key = option.header.as_ref().map_or("", |h| h.key.as_str());
        if key.eq_ignore_ascii_case("host") || key == ":authority" {
            let value = option.header.as_ref().map_or("", |h| h.value.as_str());
            request_authority = Some(Format::parse(value)?);
        } else {
            adds.push(add_header(option).within(&format!("request_headers_to_add[{i}]"))?);
        }
    }
    Ok(HeaderOps {
        add_request: adds,
        request_authority,
        remove_request: names(remove_request, "request_headers_to_remove")?,
        add_response: each("response_headers_to_add", add_response, add_header)?,
        remove_response: names(remove_response, "response_headers_to_remove")?,
    })
}

fn header_name(name: &str) -> Result<HeaderName, ConfigError> {
    HeaderName::try_from(name).map_err(|_| ConfigError::new(format!("'{name}' is no header name")))
}

/// Compiles one addition.
///
/// # Errors
/// A pseudo-header, a name that is none, or a bad format.
pub fn add_header(config: &core::HeaderValueOption) -> Result<AddHeader, ConfigError> {
    use core::header_value_option::HeaderAppendAction as Action;
    let header = config.header.clone().unwrap_or_default();
    if header.key.starts_with(':') {
        return Err(ConfigError::at("header", ":-prefixed or host headers may not be modified"));
    }
    #[allow(deprecated)] // `append: false` is how older configurations say overwrite.
    let append = match (&config.append, config.append_action()) {
        (Some(append), _) if !append.value => Append::OverwriteIfExistsOrAdd,
        (Some(_), _) | (None, Action::AppendIfExistsOrAdd) => Append::IfExistsOrAdd,
        (None, Action::AddIfAbsent) => Append::AddIfAbsent,
        (None, Action::OverwriteIfExistsOrAdd) => Append::OverwriteIfExistsOrAdd,
        (None, Action::OverwriteIfExists) => Append::OverwriteIfExists,
    };
    Ok(AddHeader {
        name: header_name(&header.key)?,
        value: Format::parse(&header.value)?,
        append,
        keep_empty: config.keep_empty_value,
    })
}
