//! One request from its head to its last byte: checks, headers, route, filters, router, and back.

use std::rc::Rc;

use http::header::{HeaderValue, SERVER};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::codec::{self, BadHead};
use super::filter::{Action, Exchange, FilterRequest, LocalReply};
use super::finish::Finish;
use super::local_reply::{self, Caller};
use super::serve::Session;
use super::upgrade::{Forbidden, Tunnel};
use super::{RouteChoice, RouteSource, ServerHeader, prepare, request_id, via};
use crate::body::{BodyError, RequestBody, ResponseBody};
use crate::error::{ProxyError, ResponseFlags};
use crate::request::RequestHead;
use crate::route::ClusterChoice;
use crate::stream::{Protocol, Stream};

/// Answers one request. An error makes hyper reset the stream or close the connection.
///
/// # Errors
/// The caller must not get a response (it is gone, or a filter said so).
pub async fn handle(session: Rc<Session>, request: Request<Incoming>) -> Result<Response<ResponseBody>, BodyError> {
    let entered = session.enter();
    let manager = session.manager.clone();
    let stats = &manager.stats;
    stats.rq_total.inc();
    if session.http2 {
        stats.rq_http2_total.inc()
    } else {
        stats.rq_http1_total.inc()
    }
    let stream = Rc::new(Stream::new(session.connection.clone()));
    stream.protocol.set(Some(codec::protocol_of(request.version())));
    let (mut parts, incoming) = request.into_parts();
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();
    let (body, mut progress) = RequestBody::incoming(incoming);
    // HTTP/1.0 keeps a connection only if asked to.
    let request_is_last =
        parts.version == http::Version::HTTP_10 && !codec::connection_says(&parts.headers, "keep-alive");
    let upgrades = parts.method == Method::CONNECT || codec::asks_for_upgrade(&parts.headers);
    if upgrades {
        // What follows the head belongs to the request, and has no end of its own.
        progress = Rc::default();
    }
    let watched = session.watch(stream.start, progress.clone());
    let limits = watched.limits.clone();
    let exchange = Rc::new(Exchange::new(stream, manager.clone(), session.worker.clone(), progress, limits));
    if request_is_last {
        exchange.put(LastRequest);
    }
    if let (Some(on_upgrade), true) = (on_upgrade, upgrades) {
        exchange.put(on_upgrade);
    }
    let method = parts.method.clone();
    let grpc = crate::request::is_grpc_content_type(&parts.headers);
    let mut finish = Some(Finish::new(exchange.clone(), session.clone(), entered, watched));
    let caller = Caller { method: &method, grpc };
    let tls = session.connection.tls.is_some();
    let (mut response, head) = match codec::read_head(parts, tls) {
        Err(bad) => (local(&exchange, None, bad_head(bad), caller)?, None),
        Ok(head) => {
            let mut held = Held { request: FilterRequest { head, body }, finish: finish.take() };
            let response = answer(&session, &exchange, &mut held.request, caller).await?;
            let (head, back) = held.part();
            finish = back;
            (response, Some(head))
        }
    };
    finish_headers(&session, &exchange, &mut response);
    let Some(mut finish) = finish else { return Ok(response) };
    finish.begin(head, &response);
    match exchange.take::<Tunnel>() {
        Some(tunnel) => tunnel.open(exchange, finish),
        None => response.body_mut().observe(finish),
    }
    Ok(response)
}

/// No other request follows on the connection.
struct LastRequest;

/// A request that is being answered. Where the caller goes before that, its head is still told of.
struct Held {
    request: FilterRequest,
    finish: Option<Finish>,
}

impl Held {
    fn part(mut self) -> (RequestHead, Option<Finish>) {
        (self.request.head.take(), self.finish.take())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(finish) = &mut self.finish {
            finish.request = Some(self.request.head.take());
        }
    }
}

fn bad_head(bad: BadHead) -> LocalReply {
    let reply = LocalReply::new(400, "", bad.details()).closing();
    if bad == BadHead::MissingHost { reply } else { reply.flags(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR) }
}

/// Everything between a readable head and the finished response.
async fn answer(
    session: &Rc<Session>,
    exchange: &Rc<Exchange>,
    request: &mut FilterRequest,
    caller: Caller<'_>,
) -> Result<Response<ResponseBody>, BodyError> {
    if let Err(reply) = prepare::prepare(session, exchange, request) {
        return local(exchange, Some(&request.head), *reply, caller);
    }
    choose_route(exchange, &request.head);
    let choice = exchange.route();
    if let (Some(tracer), Some(choice)) = (&exchange.connection_manager.tracer, &choice) {
        tracer.tell_operation(&mut request.head, choice.route.operation.as_deref());
    }
    let action = choice.as_ref().and_then(RouteChoice::forward);
    if let Some(action) = action {
        session.follow(exchange.limits(), action, &request.head.headers);
    }
    // A request without a route is the router's to answer.
    if choice.is_some() || super::upgrade::requested(&request.head).is_some() {
        match super::upgrade::admit(&session.manager, action, &request.head) {
            Ok(None) => {}
            Ok(Some(admitted)) => exchange.put(admitted),
            Err(Forbidden) => {
                let reply = LocalReply::new(403, "", "upgrade_failed");
                return local(exchange, Some(&request.head), reply, caller);
            }
        }
    }
    // Large, so it stays where it was made.
    let routed = {
        let on_its_way = std::pin::pin!(upward(exchange, request));
        exchange.limits().hold(on_its_way).await
    };
    let (mut response, ours) = match routed {
        Ok(Ok(response)) => (response, false),
        Ok(Err(reply)) => (local(exchange, Some(&request.head), *reply, caller)?, true),
        Err(passed) => {
            passed.count(&session.manager.stats);
            let reply = passed.reply(exchange.progress.is_complete());
            (local(exchange, Some(&request.head), reply, caller)?, true)
        }
    };
    if let (Some(reply), false) = (leave_filters(exchange, &mut response).await, ours) {
        response = local(exchange, Some(&request.head), *reply, caller)?;
    }
    Ok(response)
}

/// Through the filters and the router, again for each redirect that is followed here.
async fn upward(
    exchange: &Rc<Exchange>,
    request: &mut FilterRequest,
) -> Result<Response<ResponseBody>, Box<LocalReply>> {
    loop {
        if let Some(reply) = enter_filters(exchange, request).await {
            return Err(reply);
        }
        if let Some(response) = super::router::route(exchange, request).await? {
            return Ok(response);
        }
    }
}

/// Chooses the route by the head as it is now.
pub fn choose_route(exchange: &Exchange, head: &RequestHead) {
    let table = match &exchange.connection_manager.routes {
        RouteSource::Inline(table) => Some(table.clone()),
        RouteSource::Discovered { name, .. } => exchange.snapshot.shared.routes.get(name).cloned(),
    };
    let choice = table.and_then(|table| {
        let selected = table.select(head, peer_of(exchange), fastrand::u64(..))?;
        let (virtual_host, route) = (selected.virtual_host.clone(), selected.route.clone());
        let weighted = match &route.action {
            crate::route::Action::Forward(action) => match &action.cluster {
                ClusterChoice::Weighted(weighted) => weighted.choose(head, fastrand::u64(..)),
                _ => None,
            },
            _ => None,
        };
        Some(RouteChoice { table, virtual_host, route, weighted })
    });
    if let Some(choice) = &choice {
        *exchange.stream.route_name.borrow_mut() = choice.route.name.clone();
        *exchange.stream.route_metadata.borrow_mut() = Some(choice.route.metadata.clone());
        *exchange.stream.virtual_host.borrow_mut() = Some(choice.virtual_host.name.clone());
    }
    exchange.set_route(choice);
}

fn peer_of(exchange: &Exchange) -> crate::route::Peer {
    let tls = exchange.stream.connection.tls.as_ref();
    crate::route::Peer {
        presented: tls.is_some_and(|tls| tls.peer.is_some()),
        validated: tls.is_some_and(|tls| tls.peer_validated),
        internal: exchange.stream.internal.get(),
    }
}

async fn enter_filters(exchange: &Rc<Exchange>, request: &mut FilterRequest) -> Option<Box<LocalReply>> {
    let filters = &exchange.connection_manager.filters;
    for (index, link) in filters.iter().enumerate() {
        exchange.entered.set(index + 1);
        if !exchange.passes(link) {
            continue;
        }
        let mut action = link.filter.on_request(exchange, request);
        loop {
            match action {
                Action::Continue => break,
                Action::Reply(reply) => return Some(reply),
                Action::Wait(done) => action = done.await,
            }
        }
    }
    None
}

/// The response passes the filters that saw the request, last first.
async fn leave_filters(exchange: &Rc<Exchange>, response: &mut Response<ResponseBody>) -> Option<Box<LocalReply>> {
    let entered = exchange.entered.get();
    let entered = exchange.connection_manager.filters.iter().take(entered);
    for link in entered.rev().filter(|link| exchange.passes(link)) {
        let mut action = link.filter.on_response(exchange, response);
        loop {
            match action {
                Action::Continue => break,
                Action::Reply(reply) => return Some(reply),
                Action::Wait(done) => action = done.await,
            }
        }
    }
    None
}

/// Turns a reply of ours into the response and notes why.
fn local(
    exchange: &Exchange,
    request: Option<&RequestHead>,
    mut reply: LocalReply,
    caller: Caller<'_>,
) -> Result<Response<ResponseBody>, BodyError> {
    exchange.stream.add_flags(reply.flags);
    exchange.stream.set_details(reply.details.clone());
    exchange.stream.response_code.set(Some(reply.status));
    if reply.status == 0 {
        return Err(BodyError::Proxy(ProxyError::DownstreamGone));
    }
    if reply.close {
        if exchange.stream.protocol.get() == Some(Protocol::Http2) {
            return Err(reset(exchange, &reply.details));
        }
        exchange.put(LastRequest);
    }
    if let Some(mapping) = &exchange.connection_manager.local_replies {
        mapping.apply(&mut reply, &exchange.stream, request);
    }
    Ok(local_reply::render(reply, caller))
}

/// HTTP/2 callers that break the protocol are not answered: their stream is reset.
fn reset(exchange: &Exchange, details: &str) -> BodyError {
    let stream = &exchange.stream;
    stream.response_code.set(Some(0));
    stream.response_flags.set(ResponseFlags::DOWNSTREAM_REMOTE_RESET);
    stream.set_details(format!("http2.{}", details.trim_start_matches("http1.")));
    BodyError::Cut("the request breaks the protocol")
}

/// Headers that every response gets on its way out.
fn finish_headers(session: &Session, exchange: &Exchange, response: &mut Response<ResponseBody>) {
    let manager = &session.manager;
    let upgraded = exchange.with(|_: &Tunnel| ()).is_some();
    let headers = response.headers_mut();
    // HTTP/2 has none, and its codec takes away what filters added.
    if !session.http2 {
        codec::remove_hop_by_hop(headers, upgraded);
    }
    match manager.server_header {
        ServerHeader::Overwrite => {
            headers.insert(SERVER, manager.server_name.clone());
        }
        ServerHeader::AppendIfAbsent => {
            headers.entry(SERVER).or_insert_with(|| manager.server_name.clone());
        }
        ServerHeader::PassThrough => {}
    }
    if manager.request_id.always_in_response
        && let Some(id) = exchange.stream.request_id.get().and_then(|id| HeaderValue::from_str(id).ok())
    {
        headers.insert(request_id::X_REQUEST_ID, id);
    }
    if let Some(via) = &manager.via {
        via::append(headers, via);
    }
    let unfinished = !exchange.progress.is_complete() && !upgraded || exchange.with(|_: &LastRequest| ()).is_some();
    let going = session.is_draining() || unfinished || crate::observe::server::fails_health_checks();
    if going && !session.http2 {
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let (Some(reason), false) = (codec::reason(response.status().as_u16()), session.http2) {
        response.extensions_mut().insert(hyper::ext::ReasonPhrase::from_static(reason.as_bytes()));
    }
    *response.version_mut() = if session.http2 { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
}
