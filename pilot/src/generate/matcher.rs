//! Request matches → route matches and RBAC permissions.

use api::routing::{HeaderMatch, PathMatch, RequestMatch, TextMatch};
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher, query_parameter_matcher, route_match,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher};

/// A route match for requests that all of `conditions` accept.
///
/// Envoy has room for one path; a second is asked of the header `:path`, where a query may follow.
pub(super) fn route(conditions: &[RequestMatch]) -> RouteMatch {
    let mut paths = conditions.iter().filter_map(|request| request.path.as_ref());
    let path = paths.next().map_or_else(|| route_match::PathSpecifier::Prefix("/".to_owned()), specifier);
    let mut headers: Vec<HeaderMatcher> = paths.map(path_header).collect();
    headers.extend(conditions.iter().filter_map(methods));
    headers.extend(conditions.iter().flat_map(|request| request.headers.iter().map(header)));
    let query = conditions.iter().flat_map(|request| &request.query).map(|query| QueryParameterMatcher {
        name: query.name.clone(),
        query_parameter_match_specifier: Some(query_parameter_matcher::QueryParameterMatchSpecifier::StringMatch(
            text(&query.value),
        )),
    });
    RouteMatch { path_specifier: Some(path), headers, query_parameters: query.collect(), ..Default::default() }
}

/// A route match for paths with an escaped slash or backslash.
pub(super) fn escaped_slash() -> RouteMatch {
    let regex = "[^?]*%(?:2[fF]|5[cC]).*".to_owned();
    RouteMatch {
        path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())),
        headers: vec![header(&HeaderMatch { name: ":path".to_owned(), value: TextMatch::Regex(regex) })],
        ..Default::default()
    }
}

fn specifier(path: &PathMatch) -> route_match::PathSpecifier {
    match path {
        PathMatch::Exact(path) => route_match::PathSpecifier::Path(path.clone()),
        PathMatch::Prefix(prefix) => route_match::PathSpecifier::PathSeparatedPrefix(prefix.clone()),
        PathMatch::Regex(regex) => route_match::PathSpecifier::SafeRegex(self::regex(regex.clone())),
    }
}

fn path_header(path: &PathMatch) -> HeaderMatcher {
    let regex = format!("(?:{})(?:\\?.*)?", path_regex(path));
    header(&HeaderMatch { name: ":path".to_owned(), value: TextMatch::Regex(regex) })
}

/// A regular expression for the whole path that means the same.
pub(super) fn path_regex(path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(path) => regex_of(path),
        PathMatch::Prefix(prefix) => format!("{}(?:/.*)?", regex_of(prefix)),
        PathMatch::Regex(regex) => regex.clone(),
    }
}

/// A regular expression that matches just `text`.
fn regex_of(text: &str) -> String {
    let escape = |c: char| (c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_' && c != '/').then_some('\\');
    text.chars().flat_map(|c| escape(c).into_iter().chain([c])).collect()
}

/// A header matcher for the method, if it matters.
pub(super) fn methods(request: &RequestMatch) -> Option<HeaderMatcher> {
    let value = match request.methods.iter().collect::<Vec<_>>().as_slice() {
        [] => return None,
        [one] => TextMatch::Exact((*one).clone()),
        many => TextMatch::Regex(many.iter().map(|method| regex_of(method)).collect::<Vec<_>>().join("|")),
    };
    Some(header(&HeaderMatch { name: ":method".to_owned(), value }))
}

pub(super) fn header(wanted: &HeaderMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: wanted.name.clone(),
        header_match_specifier: Some(header_matcher::HeaderMatchSpecifier::StringMatch(text(&wanted.value))),
        ..Default::default()
    }
}

pub(super) fn text(wanted: &TextMatch) -> StringMatcher {
    match wanted {
        TextMatch::Exact(text) => exact(text),
        TextMatch::Regex(regex) => pattern(string_matcher::MatchPattern::SafeRegex(self::regex(regex.clone()))),
    }
}

pub(super) fn exact(text: &str) -> StringMatcher {
    pattern(string_matcher::MatchPattern::Exact(text.to_owned()))
}

pub(super) fn prefix(text: String) -> StringMatcher {
    pattern(string_matcher::MatchPattern::Prefix(text))
}

fn pattern(pattern: string_matcher::MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

pub(super) fn regex(regex: String) -> RegexMatcher {
    RegexMatcher { regex, ..Default::default() }
}
