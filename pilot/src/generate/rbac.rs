//! Access → RBAC. An RBAC with no policy denies everything; one with no rules at all would allow everything.

use api::routing::{PathMatch, RequestMatch};
use envoy_types::pb::envoy::config::rbac::v3::{Permission, Policy, Principal, Rbac, permission, principal};
use envoy_types::pb::envoy::extensions::filters::{http, network};
use envoy_types::pb::envoy::r#type::matcher::v3::{PathMatcher, path_matcher};

use super::matcher;
use crate::ir::{HttpAccess, HttpRule, TcpAccess};

/// The override of one virtual host; absent where everything is allowed.
pub(super) fn per_route(access: &HttpAccess) -> Option<http::rbac::v3::RbacPerRoute> {
    let HttpAccess::Only(rules) = access else { return None };
    let policies = rules.iter().map(|rule| (rule.name.clone(), http_policy(rule))).collect();
    let rules = Some(Rbac { policies, ..Default::default() });
    Some(http::rbac::v3::RbacPerRoute { rbac: Some(http::rbac::v3::Rbac { rules, ..Default::default() }) })
}

/// The network filter; absent where everything is allowed.
pub(super) fn network(access: &TcpAccess, stat_prefix: &str) -> Option<network::rbac::v3::Rbac> {
    let TcpAccess::Only(rules) = access else { return None };
    let policy = |callers: &[String]| Policy {
        permissions: vec![permission(permission::Rule::Any(true))],
        principals: principals(callers),
        ..Default::default()
    };
    let policies = rules.iter().map(|(name, callers)| (name.clone(), policy(callers))).collect();
    Some(network::rbac::v3::Rbac {
        rules: Some(Rbac { policies, ..Default::default() }),
        stat_prefix: stat_prefix.to_owned(),
        ..Default::default()
    })
}

fn http_policy(rule: &HttpRule) -> Policy {
    let permissions = match &rule.requests {
        None => vec![permission(permission::Rule::Any(true))],
        Some(requests) => requests.iter().map(request).collect(),
    };
    Policy { permissions, principals: principals(&rule.callers), ..Default::default() }
}

fn principals(callers: &[String]) -> Vec<Principal> {
    let of = |id: &String| Principal {
        identifier: Some(principal::Identifier::Authenticated(principal::Authenticated {
            principal_name: Some(matcher::exact(id)),
        })),
    };
    callers.iter().map(of).collect()
}

/// Path and method and every header.
fn request(wanted: &RequestMatch) -> Permission {
    let mut rules = Vec::new();
    rules.extend(wanted.path.as_ref().map(|path| permission(permission::Rule::UrlPath(self::path(path)))));
    let headers = matcher::methods(wanted).into_iter().chain(wanted.headers.iter().map(matcher::header));
    rules.extend(headers.map(|header| permission(permission::Rule::Header(header))));
    if rules.is_empty() {
        return permission(permission::Rule::Any(true));
    }
    permission(permission::Rule::AndRules(permission::Set { rules }))
}

fn path(wanted: &PathMatch) -> PathMatcher {
    let regex = api::routing::TextMatch::Regex(matcher::path_regex(wanted));
    PathMatcher { rule: Some(path_matcher::Rule::Path(matcher::text(&regex))) }
}

fn permission(rule: permission::Rule) -> Permission {
    Permission { rule: Some(rule) }
}
