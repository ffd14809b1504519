//! Refuses requests that the rules do not allow: 403, or gRPC status 7.
//! Source: Envoy's `envoy.filters.http.rbac`.

pub mod config;

use super::{Action, Exchange, FilterRequest, HttpFilter, LocalReply};
use crate::observe::stats::Counter;
use crate::rbac::{Rbac, Subject};

pub struct RbacFilter {
    name: String,
    /// `None`: everything is allowed.
    rules: Option<Rbac>,
    /// Only counted, never enforced.
    shadow: Option<Rbac>,
    allowed: Counter,
    denied: Counter,
    shadow_allowed: Counter,
    shadow_denied: Counter,
}

impl HttpFilter for RbacFilter {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        let subject = Subject { stream: &exchange.stream, head: Some(&request.head) };
        if let Some(shadow) = &self.shadow {
            let counter = if shadow.decide(subject).allowed { &self.shadow_allowed } else { &self.shadow_denied };
            counter.inc();
        }
        let Some(rules) = &self.rules else { return Action::Continue };
        let decision = rules.decide(subject);
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
