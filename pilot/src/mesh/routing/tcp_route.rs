//! Gateway API's `TCPRoute` → its one rule.

use api::gateway::TcpRoute;
use api::routing::{Actions, RequestMatch, RouteRule};
use api::{FieldPath, ObjectRef, Objects, Problem};

use super::backends;

/// The first rule, for every connection; there is nothing by which a second could be told apart.
pub(super) fn rules(route: &TcpRoute, source: &ObjectRef, objects: &Objects) -> (Vec<RouteRule>, Vec<Problem>) {
    let Some(rule) = route.spec.rules.first() else { return (Vec::new(), Vec::new()) };
    let field = FieldPath::spec().key("rules").index(0).key("backendRefs");
    let found = backends::resolve(&rule.backend_refs, source, &field, objects);
    let name = rule.name.clone().unwrap_or_else(|| source.name.clone());
    let rule = RouteRule {
        name,
        matches: vec![RequestMatch::default()],
        backends: found.backends,
        unresolved: found.unresolved,
        actions: Actions::default(),
    };
    (vec![rule], found.problems)
}
