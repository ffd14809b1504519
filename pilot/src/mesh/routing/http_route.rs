//! `HTTPRoute` → rules of one match each.

use std::collections::BTreeSet;

use api::gateway::{HttpMatch, HttpPath, HttpRoute, HttpRule, MatchType, NamedMatch, PathType};
use api::routing::{HeaderMatch, PathMatch, QueryMatch, RequestMatch, RouteRule, TextMatch};
use api::traffic_policy::{Backoff, Retry, RetryOn};
use api::{FieldPath, ObjectRef, Objects, Problem, Reason, check, pattern};

use super::{actions, backends};

/// The route's rules. A match that cannot be read is left out and told.
pub(super) fn rules(route: &HttpRoute, source: &ObjectRef, objects: &Objects) -> (Vec<RouteRule>, Vec<Problem>) {
    let mut rules = Vec::new();
    let mut problems = Vec::new();
    for (n, rule) in route.spec.rules.iter().enumerate() {
        let field = || FieldPath::spec().key("rules").index(n);
        let whole = one(rule, source, &field(), objects, &mut problems);
        let everything = [HttpMatch::default()];
        let written = if rule.matches.is_empty() { everything.as_slice() } else { rule.matches.as_slice() };
        for (m, request) in written.iter().enumerate() {
            match request_match(request) {
                Ok(request) => rules.push(RouteRule { matches: vec![request], ..whole.clone() }),
                Err((reason, message)) => {
                    let field = field().key("matches").index(m);
                    problems.push(Problem::new(reason, source.clone(), message).at(field));
                }
            }
        }
    }
    (rules, problems)
}

fn one(
    rule: &HttpRule,
    source: &ObjectRef,
    field: &FieldPath,
    objects: &Objects,
    problems: &mut Vec<Problem>,
) -> RouteRule {
    let filters = actions::from_filters(&rule.filters, source, &field.clone().key("filters"), objects);
    let backends = backends::resolve(&rule.backend_refs, source, &field.clone().key("backendRefs"), objects);
    problems.extend(filters.problems);
    problems.extend(backends.problems);
    let mut actions = filters.actions;
    if let Some(timeouts) = rule.timeouts {
        actions.timeout = timeouts.request;
        actions.per_try_timeout = timeouts.backend_request;
    }
    actions.retry = rule.retry.as_ref().map(retry);
    let name = rule.name.clone().unwrap_or_else(|| source.name.clone());
    if filters.broken {
        return RouteRule { name, ..RouteRule::default() };
    }
    RouteRule { name, matches: Vec::new(), backends: backends.backends, unresolved: backends.unresolved, actions }
}

/// Statuses that are listed, and what can repeat no effect.
fn retry(written: &api::gateway::Retry) -> Retry {
    let mut retry = Retry::default();
    retry.on.extend(written.codes.iter().map(|code| RetryOn::Status(*code)));
    retry.attempts = written.attempts.unwrap_or(1);
    retry.backoff = written.backoff.filter(|base| !base.is_zero()).map(|base| Backoff { base, max: None });
    retry
}

type Wrong = (Reason, String);

fn request_match(written: &HttpMatch) -> Result<RequestMatch, Wrong> {
    Ok(RequestMatch {
        path: written.path.as_ref().map(path).transpose()?.flatten(),
        methods: written.method.iter().cloned().collect::<BTreeSet<_>>(),
        headers: written.headers.iter().map(header).collect::<Result<_, _>>()?,
        query: written.query_params.iter().map(query).collect::<Result<_, _>>()?,
    })
}

/// `None` for the prefix `/`, which every path has.
fn path(written: &HttpPath) -> Result<Option<PathMatch>, Wrong> {
    let value = &written.value;
    if written.type_ != PathType::RegularExpression && !value.starts_with('/') {
        return Err((Reason::InvalidValue, format!("path `{value}` does not begin with /: its match accepts nothing")));
    }
    Ok(match written.type_ {
        PathType::Exact => Some(PathMatch::Exact(value.clone())),
        PathType::PathPrefix => {
            let bare = value.trim_end_matches('/');
            (!bare.is_empty()).then(|| PathMatch::Prefix(bare.to_owned()))
        }
        PathType::RegularExpression => Some(PathMatch::Regex(regex(value)?)),
    })
}

fn regex(value: &str) -> Result<String, Wrong> {
    match pattern::compile(value) {
        Ok(_) => Ok(value.to_owned()),
        Err(error) => Err((Reason::BadRegex, format!("{error}: its match accepts nothing"))),
    }
}

fn text(written: &NamedMatch) -> Result<TextMatch, Wrong> {
    Ok(match written.type_ {
        MatchType::Exact => TextMatch::Exact(written.value.clone()),
        MatchType::RegularExpression => TextMatch::Regex(regex(&written.value)?),
    })
}

/// A header and its value.
pub(super) fn header(written: &NamedMatch) -> Result<HeaderMatch, Wrong> {
    let name = check::header_name(&written.name).ok_or_else(|| {
        (Reason::InvalidValue, format!("`{}` cannot be a header's name: its match accepts nothing", written.name))
    })?;
    Ok(HeaderMatch { name, value: text(written)? })
}

fn query(written: &NamedMatch) -> Result<QueryMatch, Wrong> {
    Ok(QueryMatch { name: written.name.clone(), value: text(written)? })
}
