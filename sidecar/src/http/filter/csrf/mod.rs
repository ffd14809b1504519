//! Refuses requests that change something and come from another site's page. Source: Envoy's `envoy.filters.http.csrf`.

pub mod config;

use std::sync::Arc;

use http::header::{ORIGIN, REFERER};
use http::{Method, Uri};

use super::{Action, Exchange, FilterRequest, HttpFilter, LocalReply};
use crate::matcher::{Fraction, StringMatcher};
use crate::observe::stats::Counter;
use crate::request::RequestHead;

pub struct Csrf {
    name: String,
    policy: Arc<Policy>,
    missing: Counter,
    invalid: Counter,
    valid: Counter,
}

/// Whom to trust; a route may have its own.
pub struct Policy {
    enabled: Fraction,
    /// Only counts.
    shadow: Fraction,
    /// Beside the request's own host.
    origins: Vec<StringMatcher>,
}

impl HttpFilter for Csrf {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        let policy = exchange.route_config::<Policy>(&self.name).unwrap_or_else(|| self.policy.clone());
        let head = &request.head;
        let changes = [Method::POST, Method::PUT, Method::DELETE, Method::PATCH].contains(&head.method);
        let enabled = policy.enabled.contains(fastrand::u64(..));
        if !changes || (!enabled && !policy.shadow.contains(fastrand::u64(..))) {
            return Action::Continue;
        }
        match source(head) {
            None => self.missing.inc(),
            Some(source) if source == head.authority_str() || policy.origins.iter().any(|m| m.matches(&source)) => {
                self.valid.inc();
                return Action::Continue;
            }
            Some(_) => self.invalid.inc(),
        }
        if !enabled {
            return Action::Continue;
        }
        Action::Reply(Box::new(LocalReply::new(403, "Invalid origin", "csrf_origin_mismatch")))
    }
}

/// The host and port of the page that makes the request.
fn source(head: &RequestHead) -> Option<String> {
    let named = |name| {
        let uri: Uri = head.headers.get(name)?.to_str().ok()?.parse().ok()?;
        Some(uri.authority()?.as_str().to_owned())
    };
    named(ORIGIN).or_else(|| named(REFERER))
}
