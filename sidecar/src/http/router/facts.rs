//! What the router knows of a request before its first try: limits in time, and the hash for its host.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::HeaderValue;

use crate::http::RouteChoice;
use crate::http::filter::alpn::Offers;
use crate::http::filter::{Exchange, FilterRequest};
use crate::request::RequestHead;
use crate::route::action::{HashSource, RouteAction};
use crate::route::retry::RetryPolicy;
use crate::route::rewrite::HostRewrite;
use crate::upstream::LocalCluster;
use crate::upstream::call::Facts;

/// What is fixed about a request before its first try.
pub fn facts(
    exchange: &Exchange,
    choice: &RouteChoice,
    action: &RouteAction,
    request: &FilterRequest,
    cluster: Rc<LocalCluster>,
    retry: Option<&RetryPolicy>,
) -> Facts {
    let envoys = request.head.has_envoy_headers();
    let asked = |name: &str| {
        if !envoys {
            return None;
        }
        let value = request.head.headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok()?;
        Some(Duration::from_millis(value)).filter(|d| !d.is_zero())
    };
    let timeout = asked("x-envoy-upstream-rq-timeout-ms").or(action.timeout);
    let per_try = asked("x-envoy-upstream-rq-per-try-timeout-ms").or_else(|| retry.and_then(|r| r.per_try_timeout));
    let hedging = envoys.then(|| request.head.headers.get("x-envoy-hedge-on-per-try-timeout")).flatten();
    let hedge = match hedging.map(HeaderValue::as_bytes) {
        Some(b"true") => true,
        Some(b"false") => false,
        _ => action.hedge,
    };
    Facts {
        stream: exchange.stream.clone(),
        progress: exchange.progress.clone(),
        cluster,
        started: Instant::now(),
        timeout,
        // A try that may take as long as the whole request needs no limit of its own.
        per_try_timeout: per_try.filter(|p| timeout.is_none_or(|t| *p < t)),
        per_try_idle_timeout: retry.and_then(|r| r.per_try_idle_timeout),
        hedge,
        chosen_host: matches!(action.host, HostRewrite::Chosen).then_some(action.append_x_forwarded_host),
        count_attempts: choice.virtual_host.attempt_count_to_upstream,
        announce_timeout: !exchange.connection_manager.router.suppress_envoy_headers,
        hash: hash(exchange, action, &request.head),
        high_priority: action.high_priority,
        tried: RefCell::default(),
        reselections: retry.filter(|r| r.avoid_previous_hosts).map_or(0, |r| r.host_selection_attempts),
        subset: choice
            .weighted()
            .and_then(|weighted| weighted.metadata_match.clone())
            .or_else(|| action.metadata_match.clone()),
        // Taken away, as a redirected request may meet other filters.
        alpn: exchange.take::<Offers>().map(|offers| offers.0),
        avoid_priorities: retry.is_some_and(|r| r.avoid_priorities),
        tried_priorities: RefCell::default(),
        permit: RefCell::default(),
    }
}

/// A cookie that the response must set, so that the caller comes back to the same host.
pub struct MadeCookie(pub HeaderValue);

/// Source: Envoy's `HashPolicyImpl::generateHash`: values are combined in order.
fn hash(exchange: &Exchange, action: &RouteAction, head: &RequestHead) -> Option<u64> {
    let mut hash: Option<u64> = None;
    for policy in &action.hash {
        let value = match &policy.source {
            HashSource::Header(name) => head.header(name).map(|v| v.into_owned()),
            HashSource::Cookie { name, ttl, path } => crate::route::cookie(&head.headers, name)
                .or_else(|| ttl.map(|ttl| make_cookie(exchange, name, ttl, path)))
                .map(String::into_bytes),
            HashSource::SourceIp => exchange.stream.remote.borrow().ip().map(|ip| ip.to_string().into_bytes()),
            HashSource::Query(name) => {
                head.query().and_then(|q| crate::matcher::query_value(q, name)).map(|v| v.as_bytes().to_vec())
            }
        };
        if let Some(new) = value.map(|v| xxhash_rust::xxh64::xxh64(&v, 0)) {
            hash = Some(hash.map_or(new, |old| old.rotate_left(1) ^ new));
            if policy.terminal {
                break;
            }
        }
    }
    hash
}

/// Makes the cookie's value from the two ends of the connection, and remembers to set it.
/// Source: Envoy's `Utility::makeSetCookieValue`.
fn make_cookie(exchange: &Exchange, name: &str, ttl: Duration, path: &str) -> String {
    let connection = &exchange.stream.connection;
    let ends = format!("{}{}", connection.remote, connection.local);
    let value = format!("{:016x}", xxhash_rust::xxh64::xxh64(ends.as_bytes(), 0));
    let mut cookie = format!("{name}=\"{value}\"");
    if !ttl.is_zero() {
        cookie.push_str(&format!("; Max-Age={}", ttl.as_secs()));
    }
    if !path.is_empty() {
        cookie.push_str(&format!("; Path={path}"));
    }
    cookie.push_str("; HttpOnly");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        exchange.put(MadeCookie(cookie));
    }
    value
}
