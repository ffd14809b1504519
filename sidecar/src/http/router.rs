//! The last step of every filter chain: does what the route says, or sends the request upstream.
//! Source: Envoy's router filter.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, Response};
use hyper::upgrade::OnUpgrade;

use super::RouteChoice;
use super::filter::{Exchange, FilterRequest, LocalReply};
use crate::body::{RequestBody, ResponseBody};
use crate::error::{ProxyError, ResetReason};
use crate::request::RequestHead;
use crate::route::action::{HashSource, HostRewrite, RouteAction, WeightedCluster};
use crate::route::retry::RetryPolicy;
use crate::route::{Action, ClusterChoice};
use crate::upstream::call::{Call, Facts};
use crate::upstream::{LocalCluster, stack};

/// Source: `envoy.extensions.filters.http.router.v3.Router`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouterOptions {
    /// Neither read nor write `x-envoy-*` headers.
    pub suppress_envoy_headers: bool,
}

const UPSTREAM_SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// Carries out the route.
///
/// # Errors
/// The reply that the caller gets instead of an upstream response.
pub async fn route(
    exchange: &Rc<Exchange>,
    request: &mut FilterRequest,
) -> Result<Response<ResponseBody>, Box<LocalReply>> {
    let stats = &exchange.connection_manager.stats;
    let Some(choice) = exchange.route() else {
        stats.no_route.inc();
        return Err(reply(&ProxyError::NoRoute));
    };
    match &choice.route.action {
        Action::Forward(action) => forward(exchange, &choice, action, request).await,
        Action::Redirect(redirect) => {
            stats.rq_redirect.inc();
            let location = redirect.location(&choice.route.path, &request.head);
            let mut reply = LocalReply::new(redirect.status, "", "direct_response");
            reply.headers.extend(HeaderValue::from_str(&location).ok().map(|value| (LOCATION, value)));
            respond(exchange, &choice, request, &mut reply.headers);
            Err(Box::new(reply))
        }
        Action::Direct(direct) => {
            stats.rq_direct_response.inc();
            let mut reply = LocalReply::new(direct.status, direct.body.clone(), "direct_response");
            respond(exchange, &choice, request, &mut reply.headers);
            Err(Box::new(reply))
        }
        Action::NonForwarding => Err(reply(&ProxyError::NoRoute)),
    }
}

fn reply(error: &ProxyError) -> Box<LocalReply> {
    Box::new(LocalReply::from(error))
}

/// The route's own changes to a response's headers.
fn respond(exchange: &Exchange, choice: &RouteChoice, request: &FilterRequest, headers: &mut HeaderMap) {
    choice.ops(None).for_each(|ops| ops.apply_response(headers, &request.head, &exchange.stream));
}

async fn forward(
    exchange: &Rc<Exchange>,
    choice: &RouteChoice,
    action: &RouteAction,
    request: &mut FilterRequest,
) -> Result<Response<ResponseBody>, Box<LocalReply>> {
    let manager = &exchange.connection_manager;
    manager.stats.router_rq_total.inc();
    let (name, weighted) = cluster_name(&action.cluster, &request.head);
    *exchange.stream.upstream.cluster.borrow_mut() = Some(name.clone());
    let Some(cluster) = exchange.snapshot.cluster(&name).cloned() else {
        manager.stats.no_cluster.inc();
        return Err(reply(&ProxyError::NoCluster { status: action.cluster_not_found_status }));
    };
    let retry = RetryPolicy::for_request(action.retry.as_ref(), &request.head);
    let facts = facts(exchange, choice, action, request, cluster.clone(), retry.as_deref());
    prepare(exchange, choice, action, weighted, &mut request.head).map_err(|e| reply(&e))?;
    let log_head = manager.needs_request_headers.then(|| request.head.clone());
    let head = take_head(&mut request.head, log_head);
    let mut body = std::mem::replace(&mut request.body, RequestBody::empty());
    if retry.is_some() {
        body = body.replayable(choice.route.retry_buffer_limit.unwrap_or(cluster.cluster.buffer_limit));
    }
    let call = Call { head, body, facts: Rc::new(facts) };
    let facts = call.facts.clone();
    let sent = stack::send(call, retry).await;
    let mut response = sent.map_err(|error| failed(exchange, &cluster, &error))?;
    exchange.stream.set_details("via_upstream");
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS
        && let Some(upstream) = response.extensions_mut().remove::<OnUpgrade>()
        && let Some(downstream) = exchange.take::<OnUpgrade>()
    {
        super::upgrade::join(manager.clone(), downstream, upstream);
    }
    let headers = response.headers_mut();
    if !manager.router.suppress_envoy_headers {
        headers.insert(UPSTREAM_SERVICE_TIME, HeaderValue::from(facts.started.elapsed().as_millis() as u64));
    }
    if choice.virtual_host.attempt_count_to_downstream {
        headers.insert(ATTEMPT_COUNT, HeaderValue::from(exchange.stream.upstream.attempts.get()));
    }
    choice.ops(weighted).for_each(|ops| ops.apply_response(headers, &request.head, &exchange.stream));
    Ok(response)
}

fn failed(exchange: &Exchange, cluster: &LocalCluster, error: &ProxyError) -> Box<LocalReply> {
    match error {
        ProxyError::RequestTimeout => cluster.stats().rq_timeout.inc(),
        ProxyError::PerTryTimeout => cluster.stats().rq_per_try_timeout.inc(),
        _ => {}
    }
    exchange.stream.upstream.first_byte_received.set(None);
    cluster.count_code(error.status(), exchange.stream.internal.get());
    reply(error)
}

fn cluster_name<'a>(choice: &'a ClusterChoice, head: &RequestHead) -> (Arc<str>, Option<&'a WeightedCluster>) {
    let named = |header: &str| -> Arc<str> {
        head.header(header).map_or_else(|| "".into(), |v| String::from_utf8_lossy(&v).into())
    };
    match choice {
        ClusterChoice::Cluster(name) => (name.clone(), None),
        ClusterChoice::Header(header) => (named(header), None),
        ClusterChoice::Weighted(weighted) => match weighted.choose(head, fastrand::u64(..)) {
            None => ("".into(), None),
            Some(chosen) => {
                let name = chosen.header.as_deref().map_or_else(|| chosen.name.clone(), named);
                (name, Some(chosen))
            }
        },
    }
}

fn facts(
    exchange: &Exchange,
    choice: &RouteChoice,
    action: &RouteAction,
    request: &FilterRequest,
    cluster: Rc<LocalCluster>,
    retry: Option<&RetryPolicy>,
) -> Facts {
    let asked = |name: &str| {
        let value = request.head.headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok()?;
        Some(Duration::from_millis(value)).filter(|d| !d.is_zero())
    };
    let upgrade = super::upgrade::requested(&request.head).is_some();
    let timeout = asked("x-envoy-upstream-rq-timeout-ms").or(action.timeout).filter(|_| !upgrade);
    let per_try = asked("x-envoy-upstream-rq-per-try-timeout-ms").or_else(|| retry.and_then(|r| r.per_try_timeout));
    Facts {
        stream: exchange.stream.clone(),
        progress: exchange.progress.clone(),
        cluster,
        started: Instant::now(),
        timeout,
        // A try that may take as long as the whole request needs no limit of its own.
        per_try_timeout: per_try.filter(|p| timeout.is_none_or(|t| *p < t)),
        count_attempts: choice.virtual_host.attempt_count_to_upstream,
        announce_timeout: !exchange.connection_manager.router.suppress_envoy_headers,
        hash: hash(exchange, action, &request.head),
        high_priority: action.high_priority,
        tried: RefCell::default(),
        reselections: retry.filter(|r| r.avoid_previous_hosts).map_or(0, |r| r.host_selection_attempts),
        permit: RefCell::default(),
    }
}

/// Source: Envoy's `HashPolicyImpl::generateHash`: values are combined in order.
fn hash(exchange: &Exchange, action: &RouteAction, head: &RequestHead) -> Option<u64> {
    let mut hash: Option<u64> = None;
    for policy in &action.hash {
        let value = match &policy.source {
            HashSource::Header(name) => head.header(name).map(|v| v.into_owned()),
            HashSource::Cookie { name, .. } => crate::route::cookie(&head.headers, name).map(String::into_bytes),
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

/// Rewrites the head for upstream.
fn prepare(
    exchange: &Exchange,
    choice: &RouteChoice,
    action: &RouteAction,
    weighted: Option<&WeightedCluster>,
    head: &mut RequestHead,
) -> Result<(), ProxyError> {
    choice.ops(weighted).for_each(|ops| ops.apply_request(head, &exchange.stream));
    if let Some(path) = action.path.apply(&choice.route.path, head) {
        let original = HeaderValue::from_str(head.path_and_query()).ok();
        head.set_path(&path).map_err(|_| ProxyError::reset(ResetReason::ProtocolError))?;
        if let (Some(original), false) = (original, exchange.connection_manager.router.suppress_envoy_headers) {
            head.headers.insert(ORIGINAL_PATH, original);
        }
    }
    let host = match (weighted.and_then(|w| w.host.clone()), &action.host) {
        (Some(host), _) => Some(host),
        (None, HostRewrite::Literal(host)) => Some(host.clone()),
        (None, HostRewrite::Header(name)) => head.header(name).map(|v| String::from_utf8_lossy(&v).into_owned()),
        (None, HostRewrite::PathRegex(regex, with)) => {
            Some(regex.replace_all(head.path_only(), with.as_str()).into_owned())
        }
        (None, HostRewrite::Keep) => None,
    };
    if let Some(host) = host.and_then(|h| HeaderValue::from_str(&h).ok()) {
        if let (true, Some(old)) = (action.append_x_forwarded_host, head.authority.clone()) {
            head.headers.append(HeaderName::from_static("x-forwarded-host"), old);
        }
        head.authority = Some(host);
    }
    for name in ["x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-retry-on"]
        .into_iter()
        .chain(["x-envoy-retry-grpc-on", "x-envoy-max-retries", "x-envoy-retriable-status-codes"])
    {
        head.headers.remove(name);
    }
    Ok(())
}

/// Takes the head for upstream, leaving what later steps still look at.
fn take_head(head: &mut RequestHead, kept: Option<RequestHead>) -> RequestHead {
    let rest = kept.unwrap_or_else(|| RequestHead {
        method: head.method.clone(),
        scheme: head.scheme,
        authority: head.authority.clone(),
        path: head.path.clone(),
        headers: HeaderMap::new(),
        protocol: head.protocol,
        connect_protocol: None,
    });
    std::mem::replace(head, rest)
}
