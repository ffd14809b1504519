//! Ends connections that the rules do not allow. Source: Envoy's `envoy.filters.network.rbac`; it decides at
//! the first byte, this filter as soon as the connection is there, which no client can tell apart.

use std::rc::Rc;

use crate::observe::stats::Counter;
use crate::rbac::{Rbac, Subject};
use crate::stream::Stream;

pub struct NetworkRbac {
    /// `None`: everything is allowed.
    pub rules: Option<Rbac>,
    /// Only counted, never enforced.
    pub shadow: Option<Rbac>,
    pub allowed: Counter,
    pub denied: Counter,
    pub shadow_allowed: Counter,
    pub shadow_denied: Counter,
}

impl NetworkRbac {
    pub fn admits(&self, stream: &Rc<Stream>) -> bool {
        let subject = Subject { stream, head: None };
        if let Some(shadow) = &self.shadow {
            let counter = if shadow.decide(subject).allowed { &self.shadow_allowed } else { &self.shadow_denied };
            counter.inc();
        }
        let Some(rules) = &self.rules else { return true };
        let decision = rules.decide(subject);
        if decision.allowed {
            self.allowed.inc();
            return true;
        }
        self.denied.inc();
        let policy = decision.policy.unwrap_or("none");
        let details = format!("rbac_access_denied_matched_policy[{policy}]");
        *stream.connection.termination_details.borrow_mut() = Some(details.into());
        false
    }
}
