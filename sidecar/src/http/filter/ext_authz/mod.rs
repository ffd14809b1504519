//! Asks a service of the operator's whether a request may pass, by gRPC or HTTP, and does what it says. Without an answer the
//! request is refused, unless `failure_mode_allow` says otherwise.
//! Source: Envoy's `envoy.filters.http.ext_authz`. What the service sends and cannot be carried out is refused, as Envoy does
//! with `validate_mutations`.

mod body;
pub mod config;
mod grpc;
mod http_service;
mod question;
mod verdict;

use std::rc::Rc;

use http::Response;
use http::header::{HeaderName, HeaderValue};
use tracing::debug;

use super::{Action, Exchange, FilterRequest, HttpFilter, LocalReply};
use crate::body::ResponseBody;
use crate::error::ResponseFlags;
use crate::http::handle::choose_route;
use crate::http::upgrade;
use crate::matcher::{Fraction, MetadataMatcher};
use crate::observe::stats::Counter;
use crate::upstream::LocalCluster;
use body::{BodyRules, begin};
use question::{Question, Service};
use verdict::{Change, Changes, Denial, Verdict};

const FAILURE_ALLOWED: HeaderName = HeaderName::from_static("x-envoy-auth-failure-mode-allowed");

pub struct ExtAuthz {
    name: String,
    service: Service,
    enabled: Fraction,
    /// Only requests with such metadata are asked about.
    enabled_metadata: Option<MetadataMatcher>,
    /// What is not asked about is refused.
    deny_at_disable: bool,
    failure_allows: bool,
    /// Tell upstream that the service failed.
    failure_told: bool,
    status_on_error: u16,
    body: Option<BodyRules>,
    clear_route_cache: bool,
    /// Take the metadata that the service sends.
    takes_metadata: bool,
    charges_cluster: bool,
    /// 0: no limit.
    largest_denial: usize,
    stats: Stats,
}

struct Stats {
    ok: Counter,
    denied: Counter,
    error: Counter,
    disabled: Counter,
    failure_allowed: Counter,
    invalid: Counter,
}

/// A route's own settings.
#[derive(Default)]
pub struct RouteSettings {
    /// Told to the service.
    extensions: Vec<(String, String)>,
    /// The service is not shown the body.
    no_body: bool,
    body: Option<BodyRules>,
}

/// What the response gets on its way down.
struct Later(Vec<Change>);

impl HttpFilter for ExtAuthz {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        // Nothing can be reached without a route.
        if exchange.route().is_none() {
            return Action::Continue;
        }
        if !self.is_enabled(exchange) {
            self.stats.disabled.inc();
            return if self.deny_at_disable { self.fail() } else { Action::Continue };
        }
        Action::Wait(Box::pin(self.check(exchange, request)))
    }

    fn on_response<'a>(&'a self, exchange: &'a Exchange, response: &'a mut Response<ResponseBody>) -> Action<'a> {
        if let Some(Later(changes)) = exchange.take::<Later>() {
            changes.iter().for_each(|change| change.apply(response.headers_mut()));
        }
        Action::Continue
    }
}

impl ExtAuthz {
    fn is_enabled(&self, exchange: &Exchange) -> bool {
        let metadata = exchange.stream.dynamic_metadata.borrow();
        self.enabled.contains(fastrand::u64(..)) && self.enabled_metadata.as_ref().is_none_or(|m| m.matches(&metadata))
    }

    async fn check(&self, exchange: &Exchange, request: &mut FilterRequest) -> Action<'static> {
        let settings = exchange.route_config::<RouteSettings>(&self.name).unwrap_or_default();
        let rules = settings.body.as_ref().or(self.body.as_ref()).filter(|_| !settings.no_body);
        let shows = rules.filter(|_| !request.body.is_empty() && upgrade::requested(&request.head).is_none());
        let body = match shows {
            None => None,
            Some(rules) => match begin(&mut request.body, rules).await {
                Some(begun) => Some(begun),
                None => {
                    exchange.connection_manager.stats.rq_too_large.inc();
                    let reply = LocalReply::new(413, "Payload Too Large", "request_payload_too_large");
                    return Action::Reply(Box::new(reply));
                }
            },
        };
        let question =
            Question { exchange, head: &request.head, body: body.as_ref(), extensions: &settings.extensions };
        let verdict = self.service.ask(&question).await.unwrap_or_else(|error| {
            debug!(filter = self.name, "no answer from the authorization service: {error}");
            Verdict::Error
        });
        self.judge(exchange, request, verdict)
    }

    fn judge(&self, exchange: &Exchange, request: &mut FilterRequest, verdict: Verdict) -> Action<'static> {
        let cluster = cluster(exchange, request);
        let count = |own: &Counter, name: &str| {
            own.inc();
            if let Some(cluster) = &cluster {
                cluster.stats().ext_authz().plain(name).inc();
            }
        };
        match verdict {
            Verdict::Ok(changes) => {
                if !self.apply(exchange, request, *changes) {
                    return self.invalid();
                }
                count(&self.stats.ok, "ok");
                Action::Continue
            }
            Verdict::Denied(denial) => {
                count(&self.stats.denied, "denied");
                if let (true, Some(cluster)) = (self.charges_cluster, &cluster) {
                    cluster.count_code(denial.status, exchange.stream.internal.get());
                }
                self.deny(exchange, *denial)
            }
            Verdict::Invalid => self.invalid(),
            Verdict::Error => {
                count(&self.stats.error, "error");
                if !self.failure_allows {
                    return self.fail();
                }
                count(&self.stats.failure_allowed, "failure_mode_allowed");
                if self.failure_told {
                    request.head.headers.insert(FAILURE_ALLOWED, HeaderValue::from_static("true"));
                }
                Action::Continue
            }
        }
    }

    /// False: it can't be carried out.
    fn apply(&self, exchange: &Exchange, request: &mut FilterRequest, changes: Changes) -> bool {
        self.tell(exchange, &changes.metadata);
        if !changes.apply(&mut request.head) {
            return false;
        }
        if !changes.response.is_empty() {
            let mut later = exchange.take::<Later>().map_or_else(Vec::new, |later| later.0);
            later.extend(changes.response);
            exchange.put(Later(later));
        }
        if self.clear_route_cache {
            choose_route(exchange, &request.head);
        }
        true
    }

    fn tell(&self, exchange: &Exchange, metadata: &[(String, serde_json::Value)]) {
        for (key, value) in metadata.iter().filter(|_| self.takes_metadata) {
            exchange.stream.set_metadata(&self.name, key, value.clone());
        }
    }

    fn deny(&self, exchange: &Exchange, denial: Denial) -> Action<'static> {
        self.tell(exchange, &denial.metadata);
        let mut body = denial.body;
        if self.largest_denial > 0 {
            body.truncate(body.floor_char_boundary(self.largest_denial));
        }
        let mut reply = LocalReply::new(denial.status, body, "ext_authz_denied");
        denial.headers.iter().for_each(|change| change.apply(&mut reply.headers));
        refuse(reply)
    }

    fn fail(&self) -> Action<'static> {
        refuse(LocalReply::new(self.status_on_error, "", "ext_authz_error"))
    }

    fn invalid(&self) -> Action<'static> {
        self.stats.invalid.inc();
        Action::Reply(Box::new(LocalReply::new(500, "", "ext_authz_invalid")))
    }
}

fn refuse(reply: LocalReply) -> Action<'static> {
    Action::Reply(Box::new(reply.flags(ResponseFlags::UNAUTHORIZED_EXTERNAL_SERVICE)))
}

/// The cluster that the route is for, whose stats tell of the verdicts too.
fn cluster(exchange: &Exchange, request: &FilterRequest) -> Option<Rc<LocalCluster>> {
    let choice = exchange.route()?;
    let name = crate::http::router::cluster_name(&choice, &choice.forward()?.cluster, &request.head);
    exchange.snapshot.cluster(&name).cloned()
}
