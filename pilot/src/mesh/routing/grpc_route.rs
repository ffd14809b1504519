//! `GRPCRoute` → rules of one match each. A gRPC method is a path: `/package.Service/Method`.

use api::gateway::{GrpcMatch, GrpcMethod, GrpcRoute, MatchType};
use api::routing::{PathMatch, RequestMatch, RouteRule};
use api::{FieldPath, ObjectRef, Objects, Problem, Reason, pattern};

use super::{actions, backends, http_route};

/// The route's rules. A match that cannot be read is left out and told.
pub(super) fn rules(route: &GrpcRoute, source: &ObjectRef, objects: &Objects) -> (Vec<RouteRule>, Vec<Problem>) {
    let mut rules = Vec::new();
    let mut problems = Vec::new();
    for (n, rule) in route.spec.rules.iter().enumerate() {
        let field = || FieldPath::spec().key("rules").index(n);
        let filters = actions::from_filters(&rule.filters, source, &field().key("filters"), objects);
        let found = backends::resolve(&rule.backend_refs, source, &field().key("backendRefs"), objects);
        problems.extend(filters.problems);
        problems.extend(found.problems);
        let name = rule.name.clone().unwrap_or_else(|| source.name.clone());
        let whole = if filters.broken {
            RouteRule { name, ..RouteRule::default() }
        } else {
            let (backends, unresolved) = (found.backends, found.unresolved);
            RouteRule { name, matches: Vec::new(), backends, unresolved, actions: filters.actions }
        };
        let everything = [GrpcMatch::default()];
        let written = if rule.matches.is_empty() { everything.as_slice() } else { rule.matches.as_slice() };
        for (m, call) in written.iter().enumerate() {
            match request_match(call) {
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

fn request_match(written: &GrpcMatch) -> Result<RequestMatch, (Reason, String)> {
    let path = written.method.as_ref().map(path).transpose()?.flatten();
    let headers = written.headers.iter().map(http_route::header).collect::<Result<_, _>>()?;
    Ok(RequestMatch { path, headers, ..RequestMatch::default() })
}

fn path(method: &GrpcMethod) -> Result<Option<PathMatch>, (Reason, String)> {
    let (service, name) = (method.service.as_deref(), method.method.as_deref());
    let path = match (method.type_, service, name) {
        (_, None, None) => return Ok(None),
        (MatchType::Exact, Some(service), Some(name)) => PathMatch::Exact(format!("/{service}/{name}")),
        (MatchType::Exact, Some(service), None) => PathMatch::Prefix(format!("/{service}")),
        (MatchType::Exact, None, Some(name)) => PathMatch::Regex(format!("/[^/]+/{}", escaped(name))),
        (MatchType::RegularExpression, service, name) => {
            let part = |regex: Option<&str>| regex.map_or_else(|| "[^/]+".to_owned(), |regex| format!("(?:{regex})"));
            PathMatch::Regex(format!("/{}/{}", part(service), part(name)))
        }
    };
    if let PathMatch::Regex(regex) = &path {
        pattern::compile(regex).map_err(|error| (Reason::BadRegex, format!("{error}: its match accepts nothing")))?;
    }
    Ok(Some(path))
}

/// `name` so that a regular expression means just it.
fn escaped(name: &str) -> String {
    name.chars().flat_map(|c| (!c.is_alphanumeric() && c != '_').then_some('\\').into_iter().chain([c])).collect()
}
