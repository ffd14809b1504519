//! `RouteConfiguration` → [`RouteTable`]; what Envoy refuses is refused here with the field's path.

use std::any::Any as StdAny;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_types::pb::google::protobuf;

use super::action::config::action;
use super::headers::config::ops;
use super::prefixes::RouteIndex;
use super::retry::RetryPolicy;
use super::retry::config::retry_policy;
use super::rewrite::template;
use super::stats::{RequestStats, VirtualClusters};
use super::{FilterConfigs, PathMatch, RequireTls, Route, RouteTable, TlsMatch, VirtualHost};
use crate::config::{ConfigError, Within, bool_or, each, metadata, unpack};
use crate::matcher::config as matchers;
use crate::observe::stats::Scope as StatsScope;

pub use super::headers::config::add_header;

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

/// Filters' settings at one level.
///
/// # Errors
/// Settings that no filter takes.
pub fn filters(config: &HashMap<String, protobuf::Any>, scope: &Scope<'_>) -> Result<FilterConfigs, ConfigError> {
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
    if config.matcher.is_some() {
        return Err(ConfigError::at("matcher", "is not supported yet"));
    }
    let retry = config.retry_policy.as_ref().map(retry_policy).transpose().within("retry_policy")?.map(Arc::new);
    let routes = each("routes", &config.routes, |r| route(r, retry.as_ref(), config, scope).map(Arc::new))?;
    Ok(VirtualHost {
        name: config.name.as_str().into(),
        routes: RouteIndex::new(routes),
        require_tls: match config.require_tls() {
            pb::virtual_host::TlsRequirementType::None => None,
            pb::virtual_host::TlsRequirementType::ExternalOnly => Some(RequireTls::External),
            pb::virtual_host::TlsRequirementType::All => Some(RequireTls::Always),
        }
        .map(|who| (who, Arc::new(Route::to_https()))),
        virtual_clusters: VirtualClusters::new(
            &config.name,
            each("virtual_clusters", &config.virtual_clusters, |cluster| {
                Ok((cluster.name.clone(), each("headers", &cluster.headers, matchers::header)?))
            })?,
        ),
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
    let path = path_match(&matching).within("match")?;
    if !matching.dynamic_metadata.is_empty() || !matching.filter_state.is_empty() {
        return Err(ConfigError::at("match", "dynamic_metadata and filter_state are not supported"));
    }
    let fraction = matching.runtime_fraction.as_ref().map(matchers::runtime_fraction);
    #[allow(deprecated)] // What older control planes send.
    let buffer = config.per_request_buffer_limit_bytes.as_ref().or(host.per_request_buffer_limit_bytes.as_ref());
    Ok(Route {
        name: (!config.name.is_empty()).then(|| config.name.as_str().into()),
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
        action: action(config, &path, host, retry, scope)?,
        path,
        ops: ops(
            &config.request_headers_to_add,
            &config.request_headers_to_remove,
            &config.response_headers_to_add,
            &config.response_headers_to_remove,
        )?,
        operation: config.decorator.as_ref().map(|d| d.operation.clone()).filter(|o| !o.is_empty()),
        stats: (!config.stat_prefix.is_empty()).then(|| {
            let scope = StatsScope::root().child("vhost").child(&host.name).child("route");
            Arc::new(RequestStats::new(&config.stat_prefix, &scope))
        }),
        retry_buffer_limit: buffer.map(|v| v.value as usize),
        metadata: Arc::new(metadata(config.metadata.as_ref())),
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
        Some(PathSpecifier::PathMatchPolicy(policy)) => path_template(policy).within("path_match_policy"),
        None => {
            Err(ConfigError::new("one of prefix, path, safe_regex, connect_matcher, path_separated_prefix is required"))
        }
    }
}

fn path_template(policy: &TypedExtensionConfig) -> Result<PathMatch, ConfigError> {
    let any = policy.typed_config.as_ref().ok_or_else(|| ConfigError::at("typed_config", "value is required"))?;
    let config: UriTemplateMatchConfig = unpack(any).within("typed_config")?;
    template::compile(&config.path_template).map(PathMatch::Template).map_err(ConfigError::new)
}
