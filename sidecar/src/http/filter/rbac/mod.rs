//! Refuses requests that the rules do not allow: 403, or gRPC status 7.
//! Source: Envoy's `envoy.filters.http.rbac`.

pub mod config;

use std::sync::Arc;

use super::{Action, Exchange, FilterRequest, HttpFilter, LocalReply};
use crate::observe::stats::Counter;
use crate::rbac::{Rbac, Subject};

pub struct RbacFilter {
    name: String,
    rules: Arc<Rules>,
    allowed: Counter,
    denied: Counter,
    shadow_allowed: Counter,
    shadow_denied: Counter,
}

/// A chain's or a route's rules.
#[derive(Default)]
pub struct Rules {
    /// `None`: everything is allowed.
    enforced: Option<Rbac>,
    /// Only counted, never enforced.
    shadow: Option<Rbac>,
}

impl HttpFilter for RbacFilter {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        let subject = Subject { stream: &exchange.stream, head: Some(&request.head) };
        let rules = exchange.route_config::<Rules>(&self.name).unwrap_or_else(|| self.rules.clone());
        if let Some(shadow) = &rules.shadow {
            let counter = if shadow.decide(subject).allowed { &self.shadow_allowed } else { &self.shadow_denied };
            counter.inc();
        }
        let Some(enforced) = &rules.enforced else { return Action::Continue };
        let decision = enforced.decide(subject);
        if decision.allowed {
            self.allowed.inc();
            return Action::Continue;
        }
        self.denied.inc();
        let policy = decision.policy.unwrap_or("none");
        let details = format!("rbac_access_denied_matched_policy[{policy}]");
        Action::Reply(Box::new(LocalReply::new(403, "RBAC: access denied", details)))
    }
}
