//! The order among rules: the more specific first; among equals the older route's, then the earlier.
//!
//! Source: Gateway API `HTTPRouteRule.matches` and `GRPCRouteRule.matches`. Where a regular expression stands is left to
//! implementations; here, as in Istio, behind exact paths and prefixes.

use std::cmp::Reverse;

use api::routing::{PathMatch, RequestMatch, RouteRule};

/// Sorts rules of one match each. The sort is stable: what came first stays first among equals.
pub(super) fn sort(rules: &mut [RouteRule]) {
    rules.sort_by_key(|rule| Reverse(rule.matches.first().map(specificity)));
}

fn specificity(request: &RequestMatch) -> (u8, usize, bool, usize, usize) {
    let (rank, length) = match &request.path {
        Some(PathMatch::Exact(path)) => (3, path.chars().count()),
        Some(PathMatch::Prefix(path)) => (2, path.chars().count()),
        Some(PathMatch::Regex(regex)) => (1, regex.chars().count()),
        None => (0, 0),
    };
    (rank, length, !request.methods.is_empty(), request.headers.len(), request.query.len())
}
