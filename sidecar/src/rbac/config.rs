//! `RBAC` → [`Rbac`]. Conditions that can't be judged here make the whole of it be refused: what guards
//! fails closed.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::rbac::v3 as pb;
use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_types::pb::envoy::r#type::matcher::v3::{PathMatcher, path_matcher};

use regex::Regex;

use super::{Action, Policy, Rbac, Rule};
use crate::config::{ConfigError, Within, each, unpack};
use crate::matcher::StringMatcher;
use crate::matcher::config as matchers;
use crate::route::rewrite::template::compile;

/// Compiles rules.
///
/// # Errors
/// A condition that is not supported, or a bad matcher.
pub fn rbac(config: &pb::Rbac) -> Result<Rbac, ConfigError> {
    let sorted: BTreeMap<_, _> = config.policies.iter().collect();
    let policies = sorted
        .into_iter()
        .map(|(name, p)| Ok((name.clone(), policy(p).within(&format!("policies[{name}]"))?)))
        .collect::<Result<_, ConfigError>>()?;
    let action = match config.action() {
        pb::rbac::Action::Allow => Action::Allow,
        pb::rbac::Action::Deny => Action::Deny,
        pb::rbac::Action::Log => Action::Log,
    };
    Ok(Rbac { action, policies })
}

fn policy(config: &pb::Policy) -> Result<Policy, ConfigError> {
    if config.condition.is_some() || config.checked_condition.is_some() {
        return Err(ConfigError::at("condition", "CEL conditions are not supported"));
    }
    Ok(Policy {
        permission: Rule::Either(each("permissions", &config.permissions, permission)?),
        principal: Rule::Either(each("principals", &config.principals, principal)?),
    })
}

fn permission(config: &pb::Permission) -> Result<Rule, ConfigError> {
    use pb::permission::Rule as Kind;
    match config.rule.as_ref().ok_or_else(|| ConfigError::new("a rule is required"))? {
        Kind::Any(_) => Ok(Rule::Any),
        Kind::AndRules(set) => each("and_rules.rules", &set.rules, permission).map(Rule::All),
        Kind::OrRules(set) => each("or_rules.rules", &set.rules, permission).map(Rule::Either),
        Kind::NotRule(rule) => permission(rule).within("not_rule").map(|r| Rule::Not(Box::new(r))),
        Kind::Header(header) => matchers::header(header).within("header").map(Rule::Header),
        Kind::UrlPath(matcher) => path(matcher).within("url_path").map(Rule::Path),
        Kind::DestinationIp(range) => matchers::cidr(range).within("destination_ip").map(Rule::DestinationIp),
        Kind::DestinationPort(port) => Ok(Rule::DestinationPort(*port, port.saturating_add(1))),
        Kind::DestinationPortRange(range) => {
            let bound = |n: i32| u32::try_from(n).map_err(|_| ConfigError::at("destination_port_range", "is negative"));
            Ok(Rule::DestinationPort(bound(range.start)?, bound(range.end)?))
        }
        Kind::RequestedServerName(m) => matchers::string(m).within("requested_server_name").map(Rule::ServerName),
        Kind::UriTemplate(extension) => template(extension).within("uri_template").map(Rule::Template),
        #[allow(deprecated)] // What older control planes send for sourced_metadata.
        Kind::Metadata(matcher) => matchers::metadata(matcher).within("metadata").map(Rule::Metadata),
        Kind::SourcedMetadata(sourced) => metadata(sourced).within("sourced_metadata"),
        _ => Err(ConfigError::new("this kind of permission is not supported")),
    }
}

fn template(config: &TypedExtensionConfig) -> Result<Regex, ConfigError> {
    let any = config.typed_config.as_ref().ok_or_else(|| ConfigError::at("typed_config", "value is required"))?;
    let config: UriTemplateMatchConfig = unpack(any).within("typed_config")?;
    compile(&config.path_template).map_err(|why| ConfigError::at("typed_config.path_template", why))
}

fn principal(config: &pb::Principal) -> Result<Rule, ConfigError> {
    use pb::principal::Identifier as Kind;
    match config.identifier.as_ref().ok_or_else(|| ConfigError::new("an identifier is required"))? {
        Kind::Any(_) => Ok(Rule::Any),
        Kind::AndIds(set) => each("and_ids.ids", &set.ids, principal).map(Rule::All),
        Kind::OrIds(set) => each("or_ids.ids", &set.ids, principal).map(Rule::Either),
        Kind::NotId(id) => principal(id).within("not_id").map(|r| Rule::Not(Box::new(r))),
        Kind::Authenticated(a) => {
            let name = a.principal_name.as_ref().map(matchers::string).transpose();
            name.within("authenticated.principal_name").map(Rule::Authenticated)
        }
        #[allow(deprecated)] // What older control planes send for direct_remote_ip.
        Kind::SourceIp(range) => matchers::cidr(range).within("source_ip").map(Rule::DirectIp),
        Kind::DirectRemoteIp(range) => matchers::cidr(range).within("direct_remote_ip").map(Rule::DirectIp),
        Kind::RemoteIp(range) => matchers::cidr(range).within("remote_ip").map(Rule::RemoteIp),
        Kind::Header(header) => matchers::header(header).within("header").map(Rule::Header),
        Kind::UrlPath(matcher) => path(matcher).within("url_path").map(Rule::Path),
        #[allow(deprecated)] // What older control planes send for sourced_metadata.
        Kind::Metadata(matcher) => matchers::metadata(matcher).within("metadata").map(Rule::Metadata),
        Kind::SourcedMetadata(sourced) => metadata(sourced).within("sourced_metadata"),
        _ => Err(ConfigError::new("this kind of principal is not supported")),
    }
}

fn metadata(config: &pb::SourcedMetadata) -> Result<Rule, ConfigError> {
    let matcher = config.metadata_matcher.as_ref();
    let matcher = matcher.ok_or_else(|| ConfigError::at("metadata_matcher", "value is required"))?;
    let matcher = matchers::metadata(matcher).within("metadata_matcher")?;
    Ok(match config.metadata_source() {
        pb::MetadataSource::Dynamic => Rule::Metadata(matcher),
        pb::MetadataSource::Route => Rule::RouteMetadata(matcher),
    })
}

fn path(config: &PathMatcher) -> Result<StringMatcher, ConfigError> {
    match &config.rule {
        Some(path_matcher::Rule::Path(matcher)) => matchers::string(matcher).within("path"),
        None => Err(ConfigError::at("path", "value is required")),
    }
}
