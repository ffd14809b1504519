//! One request from its head to its last byte: checks, headers, route, filters, router, and back.

use std::rc::Rc;
use std::task::Context;
use std::time::Instant;

use http::header::{HeaderName, HeaderValue, SERVER, VIA};
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::codec::{self, BadHead};
use super::filter::{Action, End, Exchange, FilterRequest, LocalReply};
use super::head_guard::Refusal;
use super::limits::Watched;
use super::local_reply::{self, Caller};
use super::path::{self, PathVerdict};
use super::serve::{Entered, Session};
use super::upgrade::{Forbidden, Tunnel};
use super::{RouteChoice, RouteSource, ServerHeader, StripPort, Underscores, forwarded, request_id};
use crate::body::{BodyError, Observe, RequestBody, ResponseBody};
use crate::error::{ProxyError, ResponseFlags};
use crate::observe::trace::Span;
use crate::request::RequestHead;
use crate::route::ClusterChoice;
use crate::stream::{Protocol, Stream};
use crate::upstream::pool::Active;

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
    if let Err(reply) = prepare(session, exchange, request) {
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
    let routed = exchange.limits().clone().hold(upward(exchange, request)).await;
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

/// Checks and rewrites the head before any filter sees it.
fn prepare(session: &Session, exchange: &Exchange, request: &mut FilterRequest) -> Result<(), Box<LocalReply>> {
    let manager = &session.manager;
    let head = &mut request.head;
    let refuse = |status: u16, body: &'static str, details: &'static str| {
        Box::new(LocalReply::new(status, body, details).flags(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR).closing())
    };
    if head.protocol == Protocol::Http10 {
        if !manager.http1.accept_http_10 {
            return Err(Box::new(LocalReply::new(426, "Upgrade Required", "low_version").closing()));
        }
        if head.authority.is_none() {
            head.authority = manager.http1.default_host_for_http_10.clone();
        }
    }
    if head.authority.as_ref().is_none_or(HeaderValue::is_empty) && head.method != Method::CONNECT {
        return Err(Box::new(LocalReply::new(400, "", "missing_host_header").closing()));
    }
    if head.headers.len() > manager.max_headers_count as usize {
        manager.stats.rq_too_large.inc();
        return Err(refuse(431, "Request Header Fields Too Large", "http1.too_many_headers"));
    }
    check_underscores(manager.underscores, &mut head.headers)
        .map_err(|()| refuse(400, "Bad Request", "http1.unexpected_underscore"))?;
    super::upgrade::from_extended_connect(head);
    // HTTP/2 requests with hop-by-hop headers were refused by the codec.
    if !session.http2 {
        let upgrades = super::upgrade::requested(head).is_some();
        codec::remove_hop_by_hop(&mut head.headers, upgrades);
    }
    normalise_host(manager.strip_port, manager.strip_trailing_dot, session, head);
    // The codec has told the caller to go on.
    if !manager.proxy_100_continue
        && head.headers.get(http::header::EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        head.headers.remove(http::header::EXPECT);
    }
    match path::apply(&manager.path, head) {
        PathVerdict::Forward => {}
        PathVerdict::Reject(details) => return Err(Box::new(LocalReply::new(400, "", details))),
        PathVerdict::Redirect(to) => {
            let mut reply = LocalReply::new(307, "", "path_normalization_redirect");
            if let Ok(to) = HeaderValue::from_str(&to) {
                reply.headers.insert(http::header::LOCATION, to);
            }
            return Err(Box::new(reply));
        }
    }
    let caller = forwarded::apply(
        &manager.forwarded,
        head,
        &session.connection.remote,
        session.connection.local.socket().map(|a| a.port()),
    );
    let stream = &exchange.stream;
    stream.internal.set(caller.internal);
    *stream.remote.borrow_mut() = caller.remote;
    request_id::apply(&manager.request_id, head, caller.edge);
    if let Some(tracer) = &manager.tracer
        && let Some(span) = tracer.begin(&manager.request_id, head, stream)
    {
        exchange.put(span);
    }
    if let Some(id) = head.headers.get(&request_id::X_REQUEST_ID).and_then(|v| v.to_str().ok()) {
        let _ = stream.request_id.set(id.to_owned());
    }
    super::xfcc::apply(&manager.xfcc, &mut head.headers, session.connection.tls.as_deref());
    if let Some(via) = &manager.via {
        append_via(&mut head.headers, via);
    }
    Ok(())
}

/// All proxies on the way, in one header.
fn append_via(headers: &mut HeaderMap, via: &HeaderValue) {
    let before = crate::request::joined(headers, VIA.as_str());
    let all = before.map(|before| [before.as_ref(), b", ", via.as_bytes()].concat());
    let all = all.and_then(|all| HeaderValue::from_bytes(&all).ok());
    headers.insert(VIA, all.unwrap_or_else(|| via.clone()));
}

/// Names with `_` can be mistaken for their twins with `-` by applications.
fn check_underscores(action: Underscores, headers: &mut HeaderMap) -> Result<(), ()> {
    if action == Underscores::Allow {
        return Ok(());
    }
    let odd: Vec<HeaderName> = headers.keys().filter(|n| n.as_str().contains('_')).cloned().collect();
    match action {
        Underscores::Reject if !odd.is_empty() => Err(()),
        _ => {
            odd.iter().for_each(|name| {
                headers.remove(name);
            });
            Ok(())
        }
    }
}

fn normalise_host(strip: StripPort, strip_dot: bool, session: &Session, head: &mut RequestHead) {
    if strip == StripPort::Never && !strip_dot {
        return;
    }
    let host = head.authority_str();
    let (mut name, mut port) = match host.rfind(':') {
        Some(at) if !host[at..].contains(']') => (&host[..at], Some(&host[at..])),
        _ => (host, None),
    };
    if strip_dot {
        name = name.strip_suffix('.').unwrap_or(name);
    }
    let listener_port = session.connection.local.socket().map(|a| format!(":{}", a.port()));
    match strip {
        StripPort::Any => port = None,
        StripPort::Matching if port == listener_port.as_deref() => port = None,
        _ => {}
    }
    if let Ok(value) = HeaderValue::from_str(&format!("{name}{}", port.unwrap_or(""))) {
        head.authority = Some(value);
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
        append_via(headers, via);
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

/// Tells of a request that was refused before it was one.
pub fn refused(session: &Session, refusal: Refusal) {
    let manager = &session.manager;
    let stream = Stream::new(session.connection.clone());
    stream.protocol.set(Some(Protocol::Http11));
    stream.add_flags(refusal.flags);
    stream.set_details(refusal.details);
    stream.response_code.set(Some(refusal.status));
    stream.bytes_sent.set(refusal.body.len() as u64);
    stream.end.set(Some(Instant::now()));
    manager.stats.rq_total.inc();
    manager.stats.rq_http1_total.inc();
    manager.stats.count_response(&stream, true);
    manager.access_logs.iter().for_each(|log| log.write(&crate::format::Context::of(&stream)));
}

/// Sees a request to its end, whatever that is, and tells stats, logs and spans once.
pub struct Finish {
    exchange: Rc<Exchange>,
    session: Rc<Session>,
    pub request: Option<RequestHead>,
    response: Option<HeaderMap>,
    trailers: Option<HeaderMap>,
    began: bool,
    complete: bool,
    told: bool,
    watched: Watched,
    _active: Active,
    _entered: Entered,
}

impl Finish {
    fn new(exchange: Rc<Exchange>, session: Rc<Session>, entered: Entered, watched: Watched) -> Self {
        let active = Active::new(&session.manager.stats.rq_active);
        Finish {
            exchange,
            session,
            request: None,
            response: None,
            trailers: None,
            began: false,
            complete: false,
            told: false,
            watched,
            _active: active,
            _entered: entered,
        }
    }

    fn begin(&mut self, request: Option<RequestHead>, response: &Response<ResponseBody>) {
        self.began = true;
        self.request = request;
        let stream = &self.exchange.stream;
        stream.response_code.set(Some(response.status().as_u16()));
        let now = Instant::now();
        stream.first_byte_sent.set(Some(now));
        self.watched.limits.touch_at(now);
        if self.session.manager.needs_request_headers {
            self.response = Some(response.headers().clone());
        }
    }

    fn tell(&mut self) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let stream = &self.exchange.stream;
        stream.end.set(Some(Instant::now()));
        if self.exchange.progress.is_complete() || self.exchange.progress.received() > 0 {
            stream.bytes_received.set(self.exchange.progress.received());
        }
        if let (Some(passed), true) = (self.watched.limits.passed(), self.began && !self.complete)
            && stream.response_flags.get().is_empty()
        {
            // The connection ended because its caller took nothing.
            passed.count(&self.session.manager.stats);
            stream.add_flags(passed.error().flags());
            stream.set_details(passed.error().details());
        }
        if self.began && !self.complete {
            // Cut after its head: the caller went, or upstream did.
            if stream.response_flags.get().is_empty() {
                stream.add_flags(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
                stream.set_details("downstream_remote_disconnect");
            }
        } else if !self.began && stream.response_flags.get().is_empty() {
            if self.session.http2 {
                stream.add_flags(ResponseFlags::DOWNSTREAM_REMOTE_RESET);
                stream.set_details("http2.remote_reset");
            } else {
                stream.add_flags(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
                stream.set_details("downstream_remote_disconnect");
            }
            stream.response_code.set(Some(0));
        }
        let manager = &self.session.manager;
        manager.stats.count_response(stream, self.began);
        if self.began && !self.exchange.progress.is_complete() {
            manager.stats.rq_rx_reset.inc();
        }
        let (request, response, trailers) = (self.request.as_ref(), self.response.as_ref(), self.trailers.as_ref());
        if let Some(request) = request {
            let end = End { request, response, trailers };
            let entered = manager.filters.iter().take(self.exchange.entered.get());
            for link in entered.filter(|link| self.exchange.passes(link)) {
                link.filter.on_end(&self.exchange, &end);
            }
        }
        if let (Some(tracer), Some(span)) = (&manager.tracer, self.exchange.take::<Span>()) {
            let route = self.exchange.route();
            let operation = route.as_ref().and_then(|route| route.route.operation.as_deref());
            tracer.end(span, stream, operation, response, trailers);
        }
        let context = crate::format::Context { request, response, trailers, ..crate::format::Context::of(stream) };
        manager.access_logs.iter().for_each(|log| log.write(&context));
    }
}

impl Observe for Finish {
    fn frame(&mut self, frame: &mut http_body::Frame<bytes::Bytes>) -> Result<(), BodyError> {
        let stream = &self.exchange.stream;
        self.watched.limits.touch();
        if let Some(data) = frame.data_ref() {
            stream.bytes_sent.set(stream.bytes_sent.get() + data.len() as u64);
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        Ok(())
    }

    fn idle(&mut self, cx: &mut Context<'_>) -> Option<BodyError> {
        let passed = self.watched.limits.poll_passed(cx)?;
        passed.count(&self.session.manager.stats);
        Some(BodyError::Proxy(passed.error()))
    }

    fn end(&mut self, outcome: Result<(), &BodyError>) {
        self.complete = outcome.is_ok();
        if let Err(BodyError::Proxy(error)) = outcome {
            let stream = &self.exchange.stream;
            stream.add_flags(error.flags());
            stream.set_details(error.details());
        } else if let Err(BodyError::Transport(error)) = outcome {
            let error = crate::upstream::pool::body_error(error);
            let stream = &self.exchange.stream;
            stream.add_flags(error.flags());
            if let ProxyError::Reset { reason, .. } = error {
                let reason = reason.words().replace(' ', "_");
                stream.set_details(format!("upstream_reset_after_response_started{{{reason}}}"));
            }
        }
        self.tell();
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.tell();
    }
}
