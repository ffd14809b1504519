//! Refuses requests that the rules do not allow: 403, or gRPC status 7.
//! Source: Envoy's `envoy.filters.http.rbac`.

pub mod config;

use std::sync::Arc;

use super::{Action, Exchange, FilterRequest, HttpFilter, LocalReply};
use crate::observe::stats::Counter;
use crate::rbac::{Decision, Rbac, Subject};
use crate::stream::Stream;

pub struct RbacFilter {
    name: String,
    rules: Arc<Rules>,
    allowed: Counter,
    denied: Counter,
    shadow_allowed: Counter,
    shadow_denied: Counter,
    /// Goes before the keys under which metadata tell what the shadow rules decided.
    shadow_prefix: String,
}

/// A chain's or a route's rules.
#[derive(Default)]
pub struct Rules {
    /// `None`: everything is allowed.
    enforced: Option<Rbac>,
    /// Only counted, never enforced.
    shadow: Option<Rbac>,
}

const METADATA: &str = "envoy.filters.http.rbac";

impl RbacFilter {
    /// Tells what the shadow rules decided. Source: Envoy's `RoleBasedAccessControlFilter::decodeHeaders`.
    fn note(&self, stream: &Stream, decision: &Decision<'_>) {
        let (counter, result) =
            if decision.allowed { (&self.shadow_allowed, "allowed") } else { (&self.shadow_denied, "denied") };
        counter.inc();
        let key = |name: &str| format!("{}{name}", self.shadow_prefix);
        stream.set_metadata(METADATA, &key("shadow_engine_result"), result.into());
        if let Some(policy) = decision.policy {
            stream.set_metadata(METADATA, &key("shadow_effective_policy_id"), policy.into());
        }
    }
}

impl HttpFilter for RbacFilter {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        let subject = Subject { stream: &exchange.stream, head: Some(&request.head) };
        let rules = exchange.route_config::<Rules>(&self.name).unwrap_or_else(|| self.rules.clone());
        if let Some(shadow) = &rules.shadow {
            self.note(&exchange.stream, &shadow.decide(subject));
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
