//! The last step of every filter chain: does what the route says, or sends the request upstream.
//! Source: Envoy's router filter.

mod facts;
mod mirror;
mod redirect;

use std::rc::Rc;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::OnUpgrade;

use super::RouteChoice;
use super::filter::{Exchange, FilterRequest, LocalReply};
use super::upgrade::{self, Admitted, Far, Tunnel};
use crate::body::{RequestBody, ResponseBody};
use crate::error::{ProxyError, ResetReason};
use crate::request::RequestHead;
use crate::route::action::RouteAction;
use crate::route::retry::RetryPolicy;
use crate::route::stats::RequestStats;
use crate::route::{Action, ClusterChoice};
use crate::stream::Protocol;
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
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// Carries out the route. `None`: upstream redirected the request and the redirect is followed here, so that it goes
/// through the filters again.
///
/// # Errors
/// The reply that the caller gets instead of an upstream response.
pub async fn route(
    exchange: &Rc<Exchange>,
    request: &mut FilterRequest,
) -> Result<Option<Response<ResponseBody>>, Box<LocalReply>> {
    let stats = &exchange.connection_manager.stats;
    let Some(choice) = exchange.route() else {
        stats.no_route.inc();
        return Err(reply(&ProxyError::NoRoute));
    };
    match &choice.route.action {
        Action::Forward(action) => forward(exchange, &choice, action, request).await,
        Action::Redirect(redirect) => {
            stats.rq_redirect.inc();
            let location = redirect.location(&choice.route.path, &request.head, &exchange.stream);
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
        Action::NonForwarding => {
            stats.no_cluster.inc();
            Err(reply(&ProxyError::NoCluster { status: 503 }))
        }
    }
}

fn reply(error: &ProxyError) -> Box<LocalReply> {
    Box::new(LocalReply::from(error))
}

/// The route's own changes to a response's headers.
fn respond(exchange: &Exchange, choice: &RouteChoice, request: &FilterRequest, headers: &mut HeaderMap) {
    choice.ops().for_each(|ops| ops.apply_response(headers, &request.head, &exchange.stream));
}

async fn forward(
    exchange: &Rc<Exchange>,
    choice: &RouteChoice,
    action: &RouteAction,
    request: &mut FilterRequest,
) -> Result<Option<Response<ResponseBody>>, Box<LocalReply>> {
    let manager = &exchange.connection_manager;
    manager.stats.router_rq_total.inc();
    let name = cluster_name(choice, &action.cluster, &request.head);
    let Some(cluster) = exchange.snapshot.cluster(&name).cloned() else {
        manager.stats.no_cluster.inc();
        return Err(reply(&ProxyError::NoCluster { status: action.cluster_not_found_status }));
    };
    *exchange.stream.upstream.cluster.borrow_mut() = Some(name.clone());
    *exchange.stream.upstream.cluster_metadata.borrow_mut() = Some(cluster.cluster.metadata.clone());
    begin_groups(exchange, choice, &request.head);
    let retry = RetryPolicy::for_request(action.retry.as_ref(), &request.head);
    let facts = facts::facts(exchange, choice, action, request, cluster.clone(), retry.as_deref());
    let before = action.redirects.is_some().then(|| request.head.clone());
    prepare(exchange, choice, action, &mut request.head).map_err(|e| reply(&e))?;
    let admitted = exchange.with(|admitted: &Admitted| *admitted);
    if admitted.is_some_and(|admitted| admitted.terminate) {
        let terminated = terminate(exchange, &facts, request.head.protocol).await;
        return terminated.map(Some).map_err(|e| failed(exchange, &cluster, &e));
    }
    let log_head = (manager.needs_request_headers || admitted.is_some()).then(|| request.head.clone());
    let head = take_head(&mut request.head, log_head);
    let mut body = std::mem::replace(&mut request.body, RequestBody::empty());
    if !action.mirrors.is_empty() {
        body = mirror::send(exchange, &action.mirrors, &head, body, &facts);
    }
    if retry.is_some() || before.is_some() {
        body = body.replayable(choice.route.retry_buffer_limit.unwrap_or(manager.buffer_limit));
    }
    let before = before.map(|head| redirect::Before { head, body: body.again() });
    let call = Call { head, body, facts: Rc::new(facts) };
    let facts = call.facts.clone();
    let sent = stack::send(call, retry).await;
    let mut response = sent.map_err(|error| failed(exchange, &cluster, &error))?;
    exchange.stream.set_details("via_upstream");
    cluster.count_code(response.status().as_u16(), exchange.stream.internal.get());
    count_groups(exchange, response.status().as_u16(), &facts);
    if let (Some(policy), Some(before)) = (&action.redirects, before)
        && policy.covers(response.status().as_u16())
    {
        let followed = redirect::follow(exchange, choice, policy, before, request, &response);
        cluster.count_redirect(followed);
        if followed {
            return Ok(None);
        }
    }
    finish(exchange, choice, request, &facts, &mut response);
    Ok(Some(response))
}

/// What the router adds to a response of upstream.
fn finish(
    exchange: &Rc<Exchange>,
    choice: &RouteChoice,
    request: &FilterRequest,
    facts: &Facts,
    response: &mut Response<ResponseBody>,
) {
    if let Some(upstream) = response.extensions_mut().remove::<OnUpgrade>() {
        switch(exchange, &request.head, Far::Stream(upstream), response);
    }
    let manager = &exchange.connection_manager;
    let headers = response.headers_mut();
    // How long upstream took is known only once it had everything.
    if !manager.router.suppress_envoy_headers && exchange.progress.is_complete() {
        headers.insert(UPSTREAM_SERVICE_TIME, HeaderValue::from(facts.started.elapsed().as_millis() as u64));
    }
    if choice.virtual_host.attempt_count_to_downstream {
        headers.insert(ATTEMPT_COUNT, HeaderValue::from(exchange.stream.upstream.attempts.get()));
    }
    if let Some(facts::MadeCookie(cookie)) = exchange.take::<facts::MadeCookie>() {
        headers.append(SET_COOKIE, cookie);
    }
    respond(exchange, choice, request, headers);
}

/// Upstream agreed to an upgrade: the caller is told so, and the tunnel opens when it has been.
fn switch(exchange: &Rc<Exchange>, head: &RequestHead, far: Far, response: &mut Response<ResponseBody>) {
    if let Some(downstream) = exchange.take::<OnUpgrade>() {
        upgrade::grant(head, response);
        exchange.put(Tunnel { downstream, far });
    }
}

/// CONNECT that ends here: upstream gets what is inside.
async fn terminate(
    exchange: &Rc<Exchange>,
    facts: &Facts,
    protocol: Protocol,
) -> Result<Response<ResponseBody>, ProxyError> {
    let request = facts.cluster.tls_request(protocol, facts.alpn.as_deref());
    let (upstream, held) =
        crate::tcp::connect::connect(&facts.cluster, &exchange.stream, 1, facts.hash, &request).await?;
    let mut response = Response::new(ResponseBody::empty());
    if let Some(downstream) = exchange.take::<OnUpgrade>() {
        *response.status_mut() = StatusCode::OK;
        exchange.put(Tunnel { downstream, far: Far::Connection(Box::new(upstream), held) });
    }
    exchange.stream.set_details("via_upstream");
    Ok(response)
}

/// The groups in which the request is counted.
struct Groups(smallvec::SmallVec<[Arc<RequestStats>; 2]>);

fn begin_groups(exchange: &Exchange, choice: &RouteChoice, head: &RequestHead) {
    let kind = choice.virtual_host.virtual_clusters.find(head);
    if let Some(kind) = kind.filter(|kind| !choice.virtual_host.virtual_clusters.is_other(kind)) {
        *exchange.stream.virtual_cluster.borrow_mut() = Some(kind.name.clone());
    }
    let groups: smallvec::SmallVec<[_; 2]> = kind.into_iter().chain(&choice.route.stats).cloned().collect();
    if !groups.is_empty() {
        groups.iter().for_each(|group| group.total.inc());
        exchange.put(Groups(groups));
    }
}

fn count_groups(exchange: &Exchange, status: u16, facts: &Facts) {
    if let Some(Groups(groups)) = exchange.take::<Groups>() {
        groups.iter().for_each(|group| group.count(status, facts.started.elapsed()));
    }
}

fn failed(exchange: &Exchange, cluster: &LocalCluster, error: &ProxyError) -> Box<LocalReply> {
    if *error == ProxyError::RequestTimeout {
        cluster.stats().rq_timeout.inc();
    }
    if let Some(Groups(groups)) = exchange.take::<Groups>() {
        for group in &groups {
            group.count(error.status(), exchange.stream.start.elapsed());
            if *error == ProxyError::RequestTimeout {
                group.timeout.inc();
            }
        }
    }
    exchange.stream.upstream.first_byte_received.set(None);
    cluster.count_code(error.status(), exchange.stream.internal.get());
    reply(error)
}

/// The name of the cluster that the route chose, or that the request names.
pub fn cluster_name(choice: &RouteChoice, cluster: &ClusterChoice, head: &RequestHead) -> Arc<str> {
    let named = |header: &str| -> Arc<str> {
        head.header(header).map_or_else(|| "".into(), |v| String::from_utf8_lossy(&v).into())
    };
    match cluster {
        ClusterChoice::Cluster(name) => name.clone(),
        ClusterChoice::Header(header) => named(header),
        ClusterChoice::Weighted(_) => match choice.weighted() {
            None => "".into(),
            Some(chosen) => chosen.header.as_deref().map_or_else(|| chosen.name.clone(), named),
        },
    }
}

/// Rewrites the head for upstream.
fn prepare(
    exchange: &Exchange,
    choice: &RouteChoice,
    action: &RouteAction,
    head: &mut RequestHead,
) -> Result<(), ProxyError> {
    choice.ops().for_each(|ops| ops.apply_request(head, &exchange.stream));
    if let Some(path) = action.path.apply(&choice.route.path, head, &exchange.stream) {
        let original = HeaderValue::from_str(head.path_and_query()).ok();
        head.set_path(&path).map_err(|_| ProxyError::reset(ResetReason::ProtocolError))?;
        if let (Some(original), false) = (original, exchange.connection_manager.router.suppress_envoy_headers) {
            head.headers.insert(ORIGINAL_PATH, original);
        }
    }
    let weighted = choice.weighted().and_then(|weighted| weighted.host.clone());
    let host = weighted.or_else(|| action.host.apply(head, &exchange.stream));
    if let Some(host) = host.and_then(|h| HeaderValue::from_str(&h).ok()) {
        if let Some(old) = head.authority.clone() {
            if action.append_x_forwarded_host {
                head.headers.append(HeaderName::from_static("x-forwarded-host"), old.clone());
            }
            if !exchange.connection_manager.router.suppress_envoy_headers {
                head.headers.insert(ORIGINAL_HOST, old);
            }
        }
        head.authority = Some(host);
    }
    if !head.has_envoy_headers() {
        return Ok(());
    }
    for name in ["x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-retry-on"]
        .into_iter()
        .chain(["x-envoy-retry-grpc-on", "x-envoy-max-retries", "x-envoy-retriable-status-codes"])
        .chain(["x-envoy-hedge-on-per-try-timeout", "x-envoy-upstream-rq-timeout-alt-response"])
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
