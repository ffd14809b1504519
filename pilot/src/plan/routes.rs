//! The routes of one Service's port: its routing (splits, Gateway API routes) and its policy, each of which may tell
//! requests apart.

use api::routing::{Actions, Backend, MirrorTo, Otherwise, PortRouting, RequestMatch, RouteRule};

use super::names;
use crate::ir::{Action, Forward, Route, Weighted};
use crate::mesh::{CallPolicy, MeshSnapshot, PortKey, Service};

/// What answers for backends that cannot be resolved: a cluster that never exists, whose absence is told with 500.
pub(super) const UNRESOLVED: &str = "UnresolvedBackend";

pub(super) fn of(mesh: &MeshSnapshot, port: &PortKey, service: &Service, namespace: &str) -> Vec<Route> {
    let own = || vec![(Weighted { cluster: names::outbound(service, port.1), weight: 1 }, Actions::default())];
    let build = Build { mesh, port, service };
    let mut routes = Vec::new();
    let routing = mesh.routing(port, namespace).map(AsRef::as_ref);
    for rule in routing.into_iter().flat_map(|routing: &PortRouting| &routing.rules) {
        for request in &rule.matches {
            build.rule(rule, request, &mut routes);
        }
    }
    if routing.is_none_or(|routing| routing.otherwise == Otherwise::OwnEndpoints) {
        build.forward("default", &RequestMatch::default(), &own(), &Actions::default(), &mut routes);
    }
    routes
}

/// Backends as clusters with their shares.
pub(super) fn shares(mesh: &MeshSnapshot, backends: &[Backend]) -> Vec<(Weighted, Actions)> {
    let share = |backend: &Backend| {
        let service = mesh.services.get(&backend.service)?;
        let cluster = names::outbound(service, backend.port);
        Some((Weighted { cluster, weight: backend.weight }, backend.actions.clone()))
    };
    backends.iter().filter_map(share).collect()
}

struct Build<'a> {
    mesh: &'a MeshSnapshot,
    port: &'a PortKey,
    service: &'a Service,
}

impl Build<'_> {
    fn rule(&self, rule: &RouteRule, request: &RequestMatch, routes: &mut Vec<Route>) {
        let mut clusters = shares(self.mesh, &rule.backends);
        if rule.unresolved > 0 {
            let weighted = Weighted { cluster: UNRESOLVED.to_owned(), weight: rule.unresolved };
            clusters.push((weighted, Actions::default()));
        }
        let answer = match (&rule.actions.redirect, clusters.is_empty()) {
            (Some(_), _) => Action::Redirect,
            (None, true) => Action::Answer(500, ""),
            (None, false) => return self.forward(&rule.name, request, &clusters, &rule.actions, routes),
        };
        let conditions = conditions([request]);
        routes.push(Route { name: rule.name.clone(), conditions, action: answer, actions: rule.actions.clone() });
    }

    /// A route for what the policy's own matches accept, if it has any, and one for the rest.
    fn forward(
        &self,
        name: &str,
        request: &RequestMatch,
        clusters: &[(Weighted, Actions)],
        actions: &Actions,
        routes: &mut Vec<Route>,
    ) {
        let policy = &self.service.policy;
        for matched in policy.matched.iter() {
            for also in &matched.matches {
                let action = self.action(&matched.calls, clusters, actions);
                let conditions = conditions([request, also]);
                routes.push(Route { name: name.to_owned(), conditions, action, actions: actions.clone() });
            }
        }
        let action = self.action(&policy.calls, clusters, actions);
        routes.push(Route {
            name: name.to_owned(),
            conditions: conditions([request]),
            action,
            actions: actions.clone(),
        });
    }

    fn action(&self, calls: &CallPolicy, clusters: &[(Weighted, Actions)], actions: &Actions) -> Action {
        let mut retry = actions.retry.clone().unwrap_or_else(|| calls.retry.clone());
        retry.per_try_timeout = actions.per_try_timeout.filter(|limit| !limit.is_zero()).or(retry.per_try_timeout);
        let mirrors = calls.mirror.iter().chain(&actions.mirrors).filter_map(|to| self.mirror(to)).collect();
        Action::Forward(Box::new(Forward {
            clusters: clusters.to_vec(),
            timeout: actions.timeout.or(calls.timeout).filter(|limit| !limit.is_zero()),
            idle_timeout: calls.idle_timeout,
            retry: (retry.attempts > 0 && !retry.on.is_empty()).then_some(retry),
            fault: calls.fault,
            mirrors,
            hash_on: self.hash_on(),
        }))
    }

    fn mirror(&self, to: &MirrorTo) -> Option<(String, u32)> {
        let service = self.mesh.services.get(&to.service)?;
        let port = if to.port == 0 { self.port.1 } else { to.port };
        let exists = service.ports.contains_key(&port) && to.percent.per_million() > 0;
        exists.then(|| (names::outbound(service, port), to.percent.per_million()))
    }

    /// What is hashed is the called Service's to say; its backends' policies only say how a host is then found.
    fn hash_on(&self) -> Vec<api::traffic_policy::HashOn> {
        let balancer = &self.service.policy.load_balancer;
        balancer.hash_on.iter().filter(|_| balancer.policy.hashes()).cloned().collect()
    }
}

/// Only what asks for something.
fn conditions<'a>(requests: impl IntoIterator<Item = &'a RequestMatch>) -> Vec<RequestMatch> {
    requests.into_iter().filter(|request| !request.accepts_all()).cloned().collect()
}
