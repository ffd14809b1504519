//! The connections of one worker to one host. HTTP/1 connections are taken last-in first-out and
//! come back when a response is complete; an HTTP/2 connection is shared by all requests.
//!
//! Nothing here is shared between threads. Which host, and whether a request may go out at all, was
//! decided before; `max_connections` and `max_pending_requests` are asked of the cluster's circuit
//! breaker through [`Limits`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;

use super::connect::{ConnectError, Established};
use crate::body::{BodyError, Observe, RequestBody, ResponseBody};
use crate::error::{ProxyError, ResetReason};
use crate::io::{Counted, Io, gather};
use crate::observe::stats::{Counter, Gauge, Histogram};
use crate::stream::{Protocol, TlsInfo};

pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T>>>;

/// Makes one connection to the pool's host.
pub type Connect = Box<dyn Fn() -> LocalFuture<Result<Established, ConnectError>>>;

/// Held as long as something counts against a circuit breaker.
pub type Permit = Box<dyn std::any::Any>;

/// The circuit breaker's two questions for a pool.
pub trait Limits {
    /// May one more connection be made? `None`: `max_connections` is reached.
    fn connection(&self) -> Option<Permit>;
    /// May one more request wait for a connection?
    fn pending(&self) -> Option<Permit>;
}

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Speaks {
    Http1,
    Http2,
    /// What ALPN agrees on; HTTP/1 without agreement.
    Negotiated,
}

/// Source: `HttpProtocolOptions`, `Http1ProtocolOptions`, `Http2ProtocolOptions`.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolOptions {
    pub speaks: Speaks,
    /// Idle connections are closed after this; `None`: never.
    pub idle_timeout: Option<Duration>,
    /// A connection serves this many requests, then it is closed; 0: no limit.
    pub max_requests_per_connection: u64,
    /// A connection is not used longer than this.
    pub max_connection_duration: Option<Duration>,
    /// HTTP/1: `header_key_format.proper_case_words`.
    pub title_case_headers: bool,
    /// HTTP/1: keep header names as the caller wrote them (`preserve_case`).
    pub preserve_case: bool,
    pub http2: Http2Options,
    /// Largest response head, in KiB.
    pub max_response_headers_kb: u32,
    pub max_response_headers_count: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Http2Options {
    pub initial_stream_window: u32,
    pub initial_connection_window: u32,
    pub max_concurrent_streams: Option<u32>,
    /// Interval and timeout of PINGs.
    pub keepalive: Option<(Duration, Duration)>,
}

impl Default for Http2Options {
    /// Envoy's defaults since 1.34: 16 MiB a stream, 24 MiB a connection.
    fn default() -> Self {
        Http2Options {
            initial_stream_window: 16 << 20,
            initial_connection_window: 24 << 20,
            max_concurrent_streams: None,
            keepalive: None,
        }
    }
}

impl Default for PoolOptions {
    fn default() -> Self {
        PoolOptions {
            speaks: Speaks::Http1,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_requests_per_connection: 0,
            max_connection_duration: None,
            title_case_headers: false,
            preserve_case: false,
            http2: Http2Options::default(),
            max_response_headers_kb: 60,
            max_response_headers_count: 100,
        }
    }
}

/// What a pool counts; the handles are the cluster's.
#[derive(Clone)]
pub struct PoolStats {
    pub cx_total: Counter,
    pub cx_active: Gauge,
    pub cx_http1_total: Counter,
    pub cx_http2_total: Counter,
    pub cx_connect_fail: Counter,
    pub cx_connect_timeout: Counter,
    pub cx_connect_ms: Histogram,
    pub cx_length_ms: Histogram,
    pub rq_per_cx: Histogram,
    pub cx_destroy: Counter,
    pub cx_destroy_local: Counter,
    pub cx_destroy_remote: Counter,
    pub cx_destroy_with_active_rq: Counter,
    pub cx_destroy_remote_with_active_rq: Counter,
    pub cx_idle_timeout: Counter,
    pub cx_max_requests: Counter,
    pub cx_max_duration_reached: Counter,
    pub cx_overflow: Counter,
    pub cx_rx_bytes: Counter,
    pub cx_tx_bytes: Counter,
    pub cx_protocol_error: Counter,
    pub rq_pending_total: Counter,
    pub rq_pending_overflow: Counter,
    pub rq_pending_active: Gauge,
}

/// What is known about one connection while requests use it.
pub struct Link {
    pub protocol: Protocol,
    pub local: Option<std::net::SocketAddr>,
    pub tls: Option<Arc<TlsInfo>>,
    pub id: u64,
    born: Instant,
    served: Cell<u64>,
    active: Cell<u32>,
    idle_since: Cell<Option<Instant>>,
    /// No more requests: too old, too many, or its host is gone.
    retired: Cell<bool>,
    closed_by_us: Cell<bool>,
}

struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    link: Rc<Link>,
}

#[derive(Clone)]
struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    link: Rc<Link>,
}

/// One connection, or one stream of it, for one request.
enum Lease {
    Http1(Http1),
    Http2(Http2),
}

impl Lease {
    fn link(&self) -> &Rc<Link> {
        match self {
            Lease::Http1(c) => &c.link,
            Lease::Http2(c) => &c.link,
        }
    }
}

type Waiter = oneshot::Sender<Result<Lease, ConnectError>>;

#[derive(Default)]
struct State {
    idle: Vec<Http1>,
    shared: Vec<Http2>,
    /// HTTP/1 connections that exist, busy ones too.
    open: usize,
    connecting: usize,
    waiters: VecDeque<Waiter>,
    closed: bool,
}

/// The connections to one host.
pub struct Pool {
    connect: Connect,
    options: PoolOptions,
    limits: Box<dyn Limits>,
    stats: PoolStats,
    state: RefCell<State>,
    sweeping: Cell<bool>,
}

thread_local! {
    static NEXT_LINK: Cell<u64> = const { Cell::new(1) };
}

impl Pool {
    pub fn new(connect: Connect, options: PoolOptions, limits: Box<dyn Limits>, stats: PoolStats) -> Rc<Self> {
        let state = RefCell::default();
        Rc::new(Pool { connect, options, limits, stats, state, sweeping: Cell::new(false) })
    }

    /// Sends a request; `make` builds it once the connection's protocol is known. The response's body gives the
    /// connection back when it is complete.
    ///
    /// # Errors
    /// No connection, or the stream ended before the response's head. A request that hyper gives
    /// back unsent is sent again on another connection.
    pub async fn send<F>(
        self: &Rc<Self>,
        make: F,
        on_link: impl Fn(&Rc<Link>),
    ) -> Result<Response<ResponseBody>, ProxyError>
    where
        F: FnOnce(bool) -> Result<Request<RequestBody>, http::Error>,
    {
        let mut make = Some(make);
        let mut unsent: Option<Request<RequestBody>> = None;
        loop {
            let mut lease = self.lease().await?;
            on_link(lease.link());
            let request = match (unsent.take(), make.take()) {
                (Some(request), _) => request,
                (None, Some(make)) => {
                    make(lease.link().protocol.is_http2()).map_err(|_| ProxyError::reset(ResetReason::ProtocolError))?
                }
                (None, None) => return Err(ProxyError::reset(ResetReason::LocalReset)),
            };
            let mut using = Using::new(self.clone(), lease.link().clone());
            let connect = *request.method() == http::Method::CONNECT;
            let again = request.method().is_idempotent();
            let sent = match &mut lease {
                Lease::Http1(c) => c.sender.try_send_request(request).await,
                Lease::Http2(c) => c.sender.try_send_request(request).await,
            };
            match sent {
                Ok(response) => return Ok(self.received(response, lease, using, connect)),
                Err(mut failed) => {
                    using.failed = true;
                    match failed.take_message() {
                        Some(request) if lease.link().served.get() > 1 => unsent = Some(request),
                        _ => {
                            let stale = again && lease.link().served.get() > 1;
                            return Err(self.failure(failed.error(), stale));
                        }
                    }
                }
            }
        }
    }

    fn failure(&self, error: &hyper::Error, stale: bool) -> ProxyError {
        let error = stream_error(error);
        if stale && error == ProxyError::reset(ResetReason::ConnectionTermination) {
            return ProxyError::reset(ResetReason::StaleConnection);
        }
        if error == ProxyError::reset(ResetReason::ProtocolError) {
            self.stats.cx_protocol_error.inc();
        }
        error
    }

    fn received(
        self: &Rc<Self>,
        response: Response<Incoming>,
        lease: Lease,
        using: Using,
        connect: bool,
    ) -> Response<ResponseBody> {
        let upgraded = response.extensions().get::<hyper::upgrade::OnUpgrade>().is_some()
            && (response.status() == http::StatusCode::SWITCHING_PROTOCOLS || connect);
        let (mut parts, incoming) = response.into_parts();
        // Envoy has its own words for each status.
        parts.extensions.remove::<hyper::ext::ReasonPhrase>();
        let mut body = ResponseBody::incoming(incoming);
        let lease = (!upgraded).then_some(lease);
        body.observe(Returning { lease, using, complete: false });
        Response::from_parts(parts, body)
    }

    async fn lease(self: &Rc<Self>) -> Result<Lease, ConnectError> {
        loop {
            let Some(mut lease) = self.take() else { break };
            // A connection whose last response was just read becomes ready within a poll.
            let ready = match &mut lease {
                Lease::Http1(c) => c.sender.is_ready() || c.sender.ready().await.is_ok(),
                Lease::Http2(c) => c.sender.is_ready() || c.sender.ready().await.is_ok(),
            };
            if ready {
                return Ok(self.begin(lease));
            }
        }
        let Some(_pending) = self.limits.pending() else {
            self.stats.rq_pending_overflow.inc();
            return Err(ConnectError::PendingOverflow);
        };
        self.stats.rq_pending_total.inc();
        let _active = Active::new(&self.stats.rq_pending_active);
        let (waiter, lease) = oneshot::channel();
        self.enqueue(waiter)?;
        match lease.await {
            Ok(lease) => Ok(self.begin(lease?)),
            Err(_) => Err(ConnectError::HostGone),
        }
    }

    /// Queues a request and makes a connection for it, if one more is allowed and none is on its way for it.
    fn enqueue(self: &Rc<Self>, waiter: Waiter) -> Result<(), ConnectError> {
        let wanted = {
            let mut state = self.state.borrow_mut();
            if state.closed {
                return Err(ConnectError::HostGone);
            }
            state.waiters.retain(|w| !w.is_closed());
            state.waiters.push_back(waiter);
            match self.options.speaks {
                Speaks::Http1 => state.connecting < state.waiters.len(),
                Speaks::Http2 | Speaks::Negotiated => state.connecting == 0,
            }
        };
        if wanted {
            match self.limits.connection() {
                Some(permit) => self.spawn_connect(permit),
                None => {
                    self.stats.cx_overflow.inc();
                    // With no connection at all nobody would ever serve the request: Envoy makes one.
                    let state = self.state.borrow();
                    if state.open == 0 && state.connecting == 0 && state.shared.is_empty() {
                        drop(state);
                        self.spawn_connect(Box::new(()));
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&self) -> Option<Lease> {
        let mut state = self.state.borrow_mut();
        while let Some(connection) = state.idle.pop() {
            if !connection.sender.is_closed() && !self.expired(&connection.link) {
                return Some(Lease::Http1(connection));
            }
        }
        let expired = |c: &Http2| c.sender.is_closed() || self.expired(&c.link);
        state.shared.retain(|c| !expired(c));
        state.shared.last().cloned().map(Lease::Http2)
    }

    fn begin(&self, lease: Lease) -> Lease {
        let link = lease.link();
        link.served.set(link.served.get() + 1);
        link.idle_since.set(None);
        let limit = self.options.max_requests_per_connection;
        if limit > 0 && link.served.get() >= limit {
            self.stats.cx_max_requests.inc();
            link.retired.set(true);
        }
        lease
    }

    fn expired(&self, link: &Link) -> bool {
        if link.retired.get() {
            return true;
        }
        let old = self.options.max_connection_duration.is_some_and(|limit| link.born.elapsed() >= limit);
        if old {
            self.stats.cx_max_duration_reached.inc();
            link.retired.set(true);
            link.closed_by_us.set(true);
        }
        old
    }

    fn spawn_connect(self: &Rc<Self>, permit: Permit) {
        self.state.borrow_mut().connecting += 1;
        self.stats.cx_total.inc();
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let active = Active::new(&pool.stats.cx_active);
            let begun = Instant::now();
            let connected = (pool.connect)().await;
            let connected = match connected {
                Ok(established) => pool.handshake(established, permit, active).await,
                Err(error) => Err(error),
            };
            pool.state.borrow_mut().connecting -= 1;
            match connected {
                Ok(lease) => {
                    pool.stats.cx_connect_ms.record(begun.elapsed().as_millis() as u64);
                    pool.offer(lease);
                }
                Err(error) => pool.connect_failed(&error),
            }
        });
    }

    /// Envoy fails every waiting request when a connection can't be made and no other is on its way.
    fn connect_failed(&self, error: &ConnectError) {
        self.stats.cx_connect_fail.inc();
        if *error == ConnectError::Timeout {
            self.stats.cx_connect_timeout.inc();
        }
        let failed: Vec<_> = {
            let mut state = self.state.borrow_mut();
            let keep = if state.connecting + state.open > 0 { state.waiters.len().saturating_sub(1) } else { 0 };
            let failed = state.waiters.len() - keep;
            state.waiters.drain(..failed).collect()
        };
        for waiter in failed {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// Gives a free connection to who waits longest, else keeps it.
    fn offer(self: &Rc<Self>, lease: Lease) {
        let mut lease = lease;
        loop {
            let waiter = self.state.borrow_mut().waiters.pop_front();
            let Some(waiter) = waiter else { break };
            let shared = match &lease {
                Lease::Http1(_) => None,
                Lease::Http2(c) => Some(c.clone()),
            };
            match (waiter.send(Ok(lease)), shared) {
                (Ok(()), None) => return,
                (Ok(()), Some(again)) => lease = Lease::Http2(again),
                (Err(Ok(back)), _) => lease = back,
                (Err(Err(_)), _) => return,
            }
        }
        lease.link().idle_since.set(Some(Instant::now()));
        let mut state = self.state.borrow_mut();
        match lease {
            Lease::Http1(c) if !state.closed => state.idle.push(c),
            Lease::Http1(_) => {}
            Lease::Http2(c) => {
                if !state.closed && !state.shared.iter().any(|s| Rc::ptr_eq(&s.link, &c.link)) {
                    state.shared.push(c);
                }
            }
        }
        drop(state);
        self.sweep_idle();
    }

    /// Runs while there are idle connections, and closes those that were idle too long.
    fn sweep_idle(self: &Rc<Self>) {
        let Some(limit) = self.options.idle_timeout else { return };
        if self.sweeping.replace(true) {
            return;
        }
        let pool = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            let step = (limit / 8).clamp(Duration::from_millis(5), Duration::from_secs(5));
            loop {
                tokio::time::sleep(step).await;
                let Some(pool) = pool.upgrade() else { return };
                if !pool.close_idle(limit) {
                    pool.sweeping.set(false);
                    return;
                }
            }
        });
    }

    /// False once no connection is left that could become idle.
    fn close_idle(&self, limit: Duration) -> bool {
        let mut state = self.state.borrow_mut();
        let too_long = |link: &Link| {
            let idle = link.active.get() == 0 && link.idle_since.get().is_some_and(|since| since.elapsed() >= limit);
            if idle {
                self.stats.cx_idle_timeout.inc();
                link.closed_by_us.set(true);
                link.retired.set(true);
            }
            idle
        };
        state.idle.retain(|c| !c.sender.is_closed() && !too_long(&c.link));
        state.shared.retain(|c| !c.sender.is_closed() && !too_long(&c.link));
        !state.idle.is_empty() || !state.shared.is_empty()
    }

    /// The host is gone: idle connections end now, busy ones after their response.
    pub fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.closed = true;
        for link in state.idle.iter().map(|c| &c.link).chain(state.shared.iter().map(|c| &c.link)) {
            link.retired.set(true);
            link.closed_by_us.set(true);
        }
        state.idle.clear();
        state.shared.clear();
        let waiters = std::mem::take(&mut state.waiters);
        drop(state);
        for waiter in waiters {
            let _ = waiter.send(Err(ConnectError::HostGone));
        }
    }

    async fn handshake(
        self: &Rc<Self>,
        established: Established,
        permit: Permit,
        active: Active,
    ) -> Result<Lease, ConnectError> {
        let http2 = match self.options.speaks {
            Speaks::Http1 => false,
            Speaks::Http2 => true,
            Speaks::Negotiated => established.negotiated_http2(),
        };
        let Established { io, local, tls } = established;
        let io = Counted::new(io, self.stats.cx_rx_bytes.clone(), self.stats.cx_tx_bytes.clone());
        let link = Rc::new(Link {
            protocol: if http2 { Protocol::Http2 } else { Protocol::Http11 },
            local,
            tls,
            id: NEXT_LINK.replace(NEXT_LINK.get() + 1),
            born: Instant::now(),
            served: Cell::new(0),
            active: Cell::new(0),
            idle_since: Cell::new(None),
            retired: Cell::new(false),
            closed_by_us: Cell::new(false),
        });
        let kept = (permit, active);
        if http2 { self.http2(io, link, kept).await } else { self.http1(io, link, kept).await }
    }

    async fn http1(
        self: &Rc<Self>,
        io: impl Io,
        link: Rc<Link>,
        kept: (Permit, Active),
    ) -> Result<Lease, ConnectError> {
        let mut builder = http1::Builder::new();
        builder
            .max_headers(self.options.max_response_headers_count.max(16))
            .max_buf_size(((self.options.max_response_headers_kb as usize) << 10).max(64 << 10))
            .title_case_headers(self.options.title_case_headers)
            .preserve_header_case(self.options.preserve_case);
        let (sender, connection) =
            builder.handshake(TokioIo::new(io)).await.map_err(|e| ConnectError::Refused(e.to_string()))?;
        self.stats.cx_http1_total.inc();
        self.state.borrow_mut().open += 1;
        self.drive(connection.with_upgrades(), link.clone(), kept, true);
        Ok(Lease::Http1(Http1 { sender, link }))
    }

    async fn http2(
        self: &Rc<Self>,
        io: impl Io,
        link: Rc<Link>,
        kept: (Permit, Active),
    ) -> Result<Lease, ConnectError> {
        let options = &self.options.http2;
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(options.initial_stream_window)
            .initial_connection_window_size(options.initial_connection_window)
            .max_header_list_size(self.options.max_response_headers_kb << 10)
            .max_concurrent_reset_streams(1024);
        if let Some((interval, timeout)) = options.keepalive {
            builder.keep_alive_interval(interval).keep_alive_timeout(timeout).keep_alive_while_idle(true);
        }
        let (sender, connection) =
            builder.handshake(TokioIo::new(gather(io))).await.map_err(|e| ConnectError::Refused(e.to_string()))?;
        self.stats.cx_http2_total.inc();
        self.drive(connection, link.clone(), kept, false);
        Ok(Lease::Http2(Http2 { sender, link }))
    }

    /// Runs a connection until it ends, then says so.
    fn drive<C>(self: &Rc<Self>, connection: C, link: Rc<Link>, kept: (Permit, Active), http1: bool)
    where
        C: Future<Output = hyper::Result<()>> + 'static,
    {
        let pool = Rc::downgrade(self);
        let stats = self.stats.clone();
        tokio::task::spawn_local(async move {
            let _ended = connection.await;
            link.retired.set(true);
            stats.cx_destroy.inc();
            stats.cx_length_ms.record(link.born.elapsed().as_millis() as u64);
            stats.rq_per_cx.record(link.served.get());
            let by = if link.closed_by_us.get() { &stats.cx_destroy_local } else { &stats.cx_destroy_remote };
            by.inc();
            if link.active.get() > 0 {
                stats.cx_destroy_with_active_rq.inc();
                if !link.closed_by_us.get() {
                    stats.cx_destroy_remote_with_active_rq.inc();
                }
            }
            drop(kept);
            let Some(pool) = pool.upgrade() else { return };
            if http1 {
                let mut state = pool.state.borrow_mut();
                state.open = state.open.saturating_sub(1);
            }
            pool.refill();
        });
    }

    /// A connection ended while requests wait: make another for them.
    fn refill(self: &Rc<Self>) {
        let wanted = {
            let state = self.state.borrow();
            !state.closed && state.connecting < state.waiters.len()
        };
        if wanted {
            let permit = self.limits.connection();
            let alone = { self.state.borrow().open == 0 && self.state.borrow().connecting == 0 };
            match permit {
                Some(permit) => self.spawn_connect(permit),
                None if alone => self.spawn_connect(Box::new(())),
                None => {}
            }
        }
    }
}

/// Counts a request on a connection while it lives.
struct Using {
    pool: Rc<Pool>,
    link: Rc<Link>,
    failed: bool,
}

impl Using {
    fn new(pool: Rc<Pool>, link: Rc<Link>) -> Self {
        link.active.set(link.active.get() + 1);
        Using { pool, link, failed: false }
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        self.link.active.set(self.link.active.get().saturating_sub(1));
        if self.link.active.get() == 0 && !self.failed {
            self.link.idle_since.set(Some(Instant::now()));
            if self.link.protocol.is_http2() {
                self.pool.sweep_idle();
            }
        }
    }
}

/// Gives an HTTP/1 connection back when the response's body is complete.
struct Returning {
    lease: Option<Lease>,
    using: Using,
    complete: bool,
}

impl Observe for Returning {
    fn frame(&mut self, _: &mut http_body::Frame<bytes::Bytes>) -> Result<(), BodyError> {
        Ok(())
    }

    fn end(&mut self, outcome: Result<(), &BodyError>) {
        self.complete = outcome.is_ok();
        if let Err(BodyError::Transport(error)) = outcome
            && body_error(error) == ProxyError::reset(ResetReason::ProtocolError)
        {
            self.using.pool.stats.cx_protocol_error.inc();
        }
        if let (true, Some(lease)) = (self.complete, self.lease.take())
            && let Lease::Http1(connection) = lease
        {
            if connection.link.retired.get() {
                connection.link.closed_by_us.set(true);
            } else if !connection.sender.is_closed() {
                self.using.pool.offer(Lease::Http1(connection));
            }
        }
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if !self.complete && !self.link_is_shared() {
            self.using.link.closed_by_us.set(true);
        }
    }
}

impl Returning {
    fn link_is_shared(&self) -> bool {
        self.using.link.protocol.is_http2()
    }
}

/// A gauge that is one higher while this lives.
pub struct Active(Gauge);

impl Active {
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Active(gauge.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Runs hyper's HTTP/2 tasks on this thread.
#[derive(Clone, Copy)]
pub struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// What a failed stream means, from hyper's error.
pub fn stream_error(error: &hyper::Error) -> ProxyError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return http2_error(h2);
        }
        if let Some(BodyError::Proxy(inner)) = cause.downcast_ref::<BodyError>() {
            return inner.clone();
        }
        match cause.downcast_ref::<BodyError>() {
            Some(BodyError::Transport(error)) if breaks_protocol(error) => return ProxyError::DownstreamProtocol,
            Some(_) => return ProxyError::DownstreamGone,
            None => {}
        }
        source = cause.source();
    }
    if error.is_parse() || error.is_parse_status() || error.is_parse_too_large() {
        return ProxyError::reset(ResetReason::ProtocolError);
    }
    ProxyError::reset(ResetReason::ConnectionTermination)
}

/// Did the caller's body break HTTP/1's rules (a chunk's length that is none)?
fn breaks_protocol(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|s| s.downcast_ref::<std::io::Error>());
    source.is_some_and(|e| matches!(e.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData))
}

/// Why a response's body ended early. A body in HTTP/1 that stops before its end breaks the protocol.
pub fn body_error(error: &hyper::Error) -> ProxyError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && matches!(
                io.kind(),
                std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData
            )
        {
            return ProxyError::reset(ResetReason::ProtocolError);
        }
        source = cause.source();
    }
    if error.is_incomplete_message() {
        return ProxyError::reset(ResetReason::ProtocolError);
    }
    stream_error(error)
}

fn http2_error(error: &h2::Error) -> ProxyError {
    let reason = match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => ResetReason::RemoteRefusedStream,
        Some(h2::Reason::PROTOCOL_ERROR) if !error.is_remote() => ResetReason::ProtocolError,
        _ if error.is_reset() && error.is_remote() => ResetReason::RemoteReset,
        // Only streams that the peer says it has not begun end so.
        _ if error.is_go_away() && error.is_remote() => ResetReason::RemoteRefusedStream,
        _ if error.is_go_away() || error.is_io() => ResetReason::ConnectionTermination,
        _ if error.is_reset() => ResetReason::LocalReset,
        _ => ResetReason::ConnectionTermination,
    };
    ProxyError::reset(reason)
}
