//! Lets browsers' scripts of other origins call, as a route allows. Source: Envoy's `envoy.filters.http.cors`.

pub mod config;

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderName, HeaderValue, ORIGIN,
};
use http::{HeaderMap, Method, Response};

use super::{Action, Exchange, FilterRequest, HttpFilter, LocalReply};
use crate::body::ResponseBody;
use crate::matcher::{Fraction, StringMatcher};
use crate::observe::stats::Counter;

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

pub struct Cors {
    name: String,
    valid: Counter,
    invalid: Counter,
}

/// What a route allows.
pub struct Policy {
    origins: Vec<StringMatcher>,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    credentials: bool,
    private_network: bool,
    /// Preflights of other origins go upstream instead of being answered.
    forward_others: bool,
    enabled: Fraction,
    /// Only counts.
    shadow: Fraction,
}

/// The origin that was allowed, and by what.
struct Allowed {
    origin: HeaderValue,
    policy: Arc<Policy>,
}

impl HttpFilter for Cors {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        let Some(policy) = exchange.route_config::<Policy>(&self.name) else { return Action::Continue };
        let headers = &request.head.headers;
        let Some(origin) = headers.get(ORIGIN) else { return Action::Continue };
        let enabled = policy.enabled.contains(fastrand::u64(..));
        if !enabled && !policy.shadow.contains(fastrand::u64(..)) {
            return Action::Continue;
        }
        let text = origin.to_str().unwrap_or("");
        let allowed = policy.origins.iter().any(|matcher| matcher.matches(text));
        if allowed {
            self.valid.inc()
        } else {
            self.invalid.inc()
        }
        let preflight = request.head.method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !enabled || (!allowed && (!preflight || policy.forward_others)) {
            return Action::Continue;
        }
        let mut reply = LocalReply::new(200, "", "cors_response");
        if allowed {
            if preflight {
                policy.preflight(headers, &mut reply.headers);
            }
            exchange.put(Allowed { origin: origin.clone(), policy });
        }
        if preflight { Action::Reply(Box::new(reply)) } else { Action::Continue }
    }

    fn on_response<'a>(&'a self, exchange: &'a Exchange, response: &'a mut Response<ResponseBody>) -> Action<'a> {
        exchange.with(|allowed: &Allowed| allowed.policy.answer(&allowed.origin, response.headers_mut()));
        Action::Continue
    }
}

impl Policy {
    fn preflight(&self, request: &HeaderMap, headers: &mut HeaderMap) {
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
            (ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
            (ACCESS_CONTROL_MAX_AGE, &self.max_age),
        ] {
            headers.extend(value.clone().map(|value| (name, value)));
        }
        if self.private_network && request.get(REQUEST_PRIVATE_NETWORK).is_some_and(|v| v == "true") {
            headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
    }

    fn answer(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }
}
