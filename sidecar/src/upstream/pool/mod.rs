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
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use self::connection::{Http1, Http2, Lease};
use self::returning::{Returning, Using};
use super::connect::{ConnectError, Established};
use crate::body::{RequestBody, ResponseBody};
use crate::error::{ProxyError, ResetReason};
use crate::observe::stats::Gauge;

mod connection;
mod options;
mod returning;
mod stream_error;

pub use connection::{Link, LocalExecutor};
pub use options::{Http2Options, PoolOptions, PoolStats, Speaks};
pub use stream_error::{body_error, stream_error};

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
