//! Answers health checks of this proxy itself, or of the application by way of it.
//! Source: Envoy's `envoy.filters.http.health_check`.

pub mod config;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use http::Response;
use http::header::{HeaderName, HeaderValue};

use super::{Action, Exchange, FilterRequest, HttpFilter, LocalReply};
use crate::body::ResponseBody;
use crate::error::ResponseFlags;
use crate::matcher::HeaderMatcher;
use crate::observe::server;

const IMMEDIATE_FAIL: HeaderName = HeaderName::from_static("x-envoy-immediate-health-check-fail");
const CHECKED_CLUSTER: HeaderName = HeaderName::from_static("x-envoy-upstream-healthchecked-cluster");

pub struct HealthCheckFilter {
    name: String,
    /// Checks go on to the application.
    pass_through: bool,
    /// What the application answered is good for so long.
    cache_time: Option<Duration>,
    cached: Mutex<Option<(Instant, u16)>>,
    headers: Vec<HeaderMatcher>,
    /// Clusters, with the percentage of hosts that must be well.
    minimum: Vec<(String, f64)>,
}

/// The request is a check; true: the application answers it.
struct Check(bool);

impl HttpFilter for HealthCheckFilter {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        if !self.headers.iter().all(|m| m.matches(&request.head)) {
            return Action::Continue;
        }
        exchange.stream.health_check.set(true);
        exchange.put(Check(self.pass_through));
        if server::fails_health_checks() {
            return failed(503, "health_check_failed");
        }
        if self.pass_through {
            return match self.cached_status() {
                Some(200) => ok("health_check_cached"),
                Some(status) => failed(status, "health_check_cached"),
                None => Action::Continue,
            };
        }
        match self.minimum.iter().all(|(cluster, least)| is_well(exchange, cluster, *least)) {
            true => ok("health_check_ok"),
            false => failed(503, "health_check_no_min_healthy"),
        }
    }

    fn on_response<'a>(&'a self, exchange: &'a Exchange, response: &'a mut Response<ResponseBody>) -> Action<'a> {
        let check = exchange.with(|check: &Check| check.0);
        let status = response.status().as_u16();
        let headers = response.headers_mut();
        if check == Some(true) && self.cache_time.is_some() {
            *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), status));
        }
        if check.is_some() {
            let cluster = crate::observe::trace::service_cluster();
            if let Ok(cluster) = HeaderValue::from_str(&cluster) {
                headers.insert(CHECKED_CLUSTER, cluster);
            }
        }
        if server::fails_health_checks() {
            headers.insert(IMMEDIATE_FAIL, HeaderValue::from_static("true"));
        }
        Action::Continue
    }
}

impl HealthCheckFilter {
    fn cached_status(&self) -> Option<u16> {
        let (at, status) = (*self.cached.lock().unwrap_or_else(PoisonError::into_inner))?;
        (at.elapsed() < self.cache_time?).then_some(status)
    }
}

fn is_well(exchange: &Exchange, cluster: &str, least: f64) -> bool {
    let Some(cluster) = exchange.snapshot.cluster(cluster) else { return false };
    let stats = cluster.stats();
    let total = stats.membership_total.value();
    let well = stats.membership_healthy.value() + stats.membership_degraded.value();
    if total == 0 { least == 0.0 } else { well as f64 * 100.0 >= least * total as f64 }
}

fn ok(details: &'static str) -> Action<'static> {
    Action::Reply(Box::new(LocalReply::new(200, "", details)))
}

fn failed(status: u16, details: &'static str) -> Action<'static> {
    let reply = LocalReply::new(status, "", details).flags(ResponseFlags::FAILED_LOCAL_HEALTH_CHECK);
    Action::Reply(Box::new(reply))
}
