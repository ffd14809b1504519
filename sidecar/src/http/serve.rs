//! One downstream connection that speaks HTTP: which version, its limits in time, and its drain.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::time::Sleep;

use super::head_guard::{GuardState, Guarded, HeadLimits, Refusal};
use super::limits::{Deadlines, StreamLimits, Watched};
use super::{CodecType, ConnectionManager};
use crate::body::{BodyError, Progress, ResponseBody};
use crate::io::{Counted, Io, Prefixed, Traffic, gather};
use crate::route::RouteAction;
use crate::stream::Connection;
use crate::upstream::pool::{Active, LocalExecutor, LocalFuture};
use crate::worker::Worker;

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection's requests and its timers tell each other.
pub struct Session {
    pub manager: Arc<ConnectionManager>,
    pub connection: Rc<Connection>,
    pub worker: Rc<Worker>,
    pub http2: bool,
    traffic: Arc<Traffic>,
    active: Cell<u32>,
    served: Cell<u64>,
    idle_since: Cell<Instant>,
    /// Bytes received when the connection last became idle.
    received_when_idle: Cell<u64>,
    /// Since when a head has been coming in.
    head_since: Cell<Option<Instant>>,
    draining: Cell<bool>,
    /// It ends with its next answer, and then at the latest.
    leaves: Cell<Option<Instant>>,
    /// When the head's time was over.
    refused_at: Cell<Option<Instant>>,
    /// HTTP/1: what is refused before it is a request.
    guard: Option<Arc<GuardState>>,
    deadlines: Deadlines,
    waker: RefCell<Option<Waker>>,
}

impl Session {
    /// Watches the limits of a request that begins.
    pub fn watch(&self, begun: Instant, progress: Rc<Progress>) -> Watched {
        let (watched, earlier) = self.deadlines.watch(self.manager.stream_limits, begun, progress);
        if earlier {
            self.wake();
        }
        watched
    }

    /// Applies what a request's route says of its limits.
    pub fn follow(&self, limits: &StreamLimits, action: &RouteAction, headers: &HeaderMap) {
        if self.deadlines.follow(limits, action, headers) {
            self.wake();
        }
    }

    /// A request begins. Counts while the answer is held.
    pub fn enter(self: &Rc<Self>) -> Entered {
        self.active.set(self.active.get() + 1);
        self.served.set(self.served.get() + 1);
        self.head_since.set(None);
        if let Some(guard) = &self.guard {
            guard.set_between(false);
        }
        if self.leaves.get().is_some() || crate::observe::server::fails_health_checks() {
            self.drain();
        }
        let limit = self.manager.max_requests_per_connection;
        if limit > 0 && self.served.get() >= u64::from(limit) {
            self.manager.stats.cx_max_requests_reached.inc();
            self.drain();
        }
        Entered(self.clone())
    }

    /// No more requests on this connection: `Connection: close` or GOAWAY.
    pub fn drain(&self) {
        self.draining.set(true);
        self.wake();
    }

    /// The connection's listener is gone or has changed. An idle HTTP/1 connection that were closed now might be just about to be used:
    /// it is told by its next answer.
    pub fn leave(&self) {
        if self.http2 || self.active.get() > 0 {
            return self.drain();
        }
        self.leaves.set(Some(Instant::now() + LEAVING));
        self.wake();
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// A request that is being answered.
pub struct Entered(Rc<Session>);

impl Drop for Entered {
    fn drop(&mut self) {
        let session = &self.0;
        session.active.set(session.active.get().saturating_sub(1));
        if session.active.get() == 0 {
            session.idle_since.set(Instant::now());
            session.received_when_idle.set(session.traffic.received());
            if let Some(guard) = &session.guard {
                guard.set_between(true);
            }
            session.wake();
        }
    }
}

/// Serves a connection until it ends.
pub async fn serve(manager: Arc<ConnectionManager>, io: Box<dyn Io>, connection: Rc<Connection>, worker: Rc<Worker>) {
    let stats = &manager.stats;
    stats.cx_total.inc();
    let _active = Active::new(&stats.cx_active);
    if connection.tls.is_some() {
        stats.cx_ssl_total.inc();
    }
    let begun = Instant::now();
    let io = Counted::new(io, stats.cx_rx_bytes.clone(), stats.cx_tx_bytes.clone());
    if let Some((io, http2)) = choose_codec(&manager, &connection, io).await {
        let traffic = io.get_ref().traffic();
        let session = Session {
            manager: manager.clone(),
            connection,
            worker,
            http2,
            traffic,
            active: Cell::new(0),
            served: Cell::new(0),
            idle_since: Cell::new(begun),
            received_when_idle: Cell::new(0),
            head_since: Cell::new(None),
            draining: Cell::new(false),
            leaves: Cell::new(None),
            refused_at: Cell::new(None),
            guard: None,
            deadlines: Deadlines::default(),
            waker: RefCell::new(None),
        };
        if http2 { serve_http2(session, io).await } else { serve_http1(session, io).await }
    }
    manager.stats.cx_destroy.inc();
    manager.stats.cx_length_ms.record(begun.elapsed().as_millis() as u64);
}

/// Decides between HTTP/1 and HTTP/2, reading the first bytes if nothing else tells.
async fn choose_codec<I: Io>(
    manager: &ConnectionManager,
    connection: &Connection,
    io: I,
) -> Option<(Prefixed<I>, bool)> {
    let mut io = Prefixed::new(io, Vec::new());
    let http2 = match manager.codec {
        CodecType::Http1 => false,
        CodecType::Http2 => true,
        CodecType::Auto => match connection.tls.as_ref().map(|tls| tls.alpn.as_str()) {
            Some("h2" | "istio-h2") => true,
            Some("http/1.1" | "http/1.0" | "istio-http/1.1" | "istio-http/1.0") => false,
            _ => {
                let limit = manager.idle_timeout.unwrap_or(Duration::from_secs(3600));
                tokio::time::timeout(limit, sniff(&mut io)).await.ok()??
            }
        },
    };
    Some((io, http2))
}

/// True for HTTP/2's preface; `None` if the peer went away first.
async fn sniff<I: Io>(io: &mut Prefixed<I>) -> Option<bool> {
    let mut seen = Vec::with_capacity(HTTP2_PREFACE.len());
    loop {
        let mut chunk = [0u8; 24];
        let want = HTTP2_PREFACE.len() - seen.len();
        let n = io.read(chunk.get_mut(..want)?).await.ok()?;
        if n == 0 {
            return None;
        }
        seen.extend_from_slice(chunk.get(..n)?);
        let http2 = HTTP2_PREFACE.starts_with(&seen);
        if !http2 || seen.len() == HTTP2_PREFACE.len() {
            io.unread(seen);
            return Some(http2);
        }
    }
}

/// The service behind either protocol. The future is boxed to keep idle connections small.
fn answers(
    session: &Rc<Session>,
) -> impl Service<Request<Incoming>, Response = Answer, Error = BodyError, Future = LocalFuture<Result<Answer, BodyError>>>
+ use<> {
    let session = session.clone();
    service_fn(move |request| -> LocalFuture<Result<Answer, BodyError>> {
        Box::pin(super::handle::handle(session.clone(), request))
    })
}

type Answer = Response<ResponseBody>;

async fn serve_http1<I: Io>(mut session: Session, io: Prefixed<I>) {
    let manager = session.manager.clone();
    let limits = HeadLimits {
        bytes: (manager.max_request_headers_kb as usize) << 10,
        headers: manager.max_headers_count as usize,
    };
    let (io, guard) = Guarded::new(io, limits, manager.server_name.to_str().unwrap_or("").to_owned());
    session.guard = Some(guard.clone());
    let session = Rc::new(session);
    let ending = session.worker.drains().register(&session);
    manager.stats.cx_http1_total.inc();
    let _active = Active::new(&manager.stats.cx_http1_active);
    let mut builder = http1::Builder::new();
    builder
        .max_headers(manager.max_headers_count as usize + 1)
        .max_buf_size(((manager.max_request_headers_kb as usize) << 10).max(8 << 10))
        .title_case_headers(manager.http1.title_case_headers)
        .preserve_header_case(manager.http1.preserve_case);
    let connection = builder.serve_connection(TokioIo::new(io), answers(&session)).with_upgrades();
    let mut connection = pin!(connection);
    drive(&session, |cx, drain| {
        if drain {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx).map(|result| result.err())
    })
    .await;
    if let Some(refusal) = guard.refusal() {
        super::finish::refused(&session, refusal);
    }
    drop(ending);
}

async fn serve_http2<I: Io>(session: Session, io: Prefixed<I>) {
    let session = Rc::new(session);
    let ending = session.worker.drains().register(&session);
    let manager = &session.manager;
    manager.stats.cx_http2_total.inc();
    let _active = Active::new(&manager.stats.cx_http2_active);
    let options = &manager.http2;
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(options.initial_stream_window)
        .initial_connection_window_size(options.initial_connection_window)
        .max_concurrent_streams(options.max_concurrent_streams.unwrap_or(1024))
        .max_header_list_size(manager.max_request_headers_kb << 10)
        .max_send_buf_size(256 << 10);
    if options.allow_connect {
        builder.enable_connect_protocol();
    }
    if let Some((interval, timeout)) = options.keepalive {
        builder.keep_alive_interval(interval).keep_alive_timeout(timeout);
    }
    let connection = builder.serve_connection(TokioIo::new(gather(io)), answers(&session));
    let mut connection = pin!(connection);
    drive(&session, |cx, drain| {
        if drain {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx).map(|result| result.err())
    })
    .await;
    drop(ending);
}

/// How long an idle connection may wait to be told. Source: Envoy's `--drain-time-s`.
const LEAVING: Duration = Duration::from_secs(600);
/// How long a connection that was told to go may take to say goodbye once idle.
const DRAINED_GRACE: Duration = Duration::from_secs(1);

/// Polls a connection together with its timers until it ends or a limit ends it.
async fn drive(
    session: &Rc<Session>,
    mut poll_connection: impl FnMut(&mut Context<'_>, bool) -> Poll<Option<hyper::Error>>,
) {
    let mut told = false;
    let mut sleep: Option<(Instant, Pin<Box<Sleep>>)> = None;
    poll_fn(|cx| {
        loop {
            let drain_now = session.draining.get() && !std::mem::replace(&mut told, session.draining.get());
            if let Poll::Ready(error) = poll_connection(cx, drain_now) {
                if let Some(error) = error {
                    session.manager.count_connection_error(session.http2, &error);
                }
                return Poll::Ready(());
            }
            *session.waker.borrow_mut() = Some(cx.waker().clone());
            if session.draining.get() && !told {
                continue;
            }
            let Some((due, what)) = next_limit(session) else { return Poll::Pending };
            let armed = match &mut sleep {
                Some((at, timer)) if *at == due => timer,
                Some((at, timer)) => {
                    timer.as_mut().reset(due.into());
                    *at = due;
                    timer
                }
                None => &mut sleep.insert((due, Box::pin(tokio::time::sleep_until(due.into())))).1,
            };
            if armed.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if !expire(session, what) {
                return Poll::Ready(());
            }
        }
    })
    .await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Idle,
    Head,
    Duration,
    Drained,
    /// It was to be told to go, and was never used.
    Leaving,
    /// A limit of one of its requests.
    Stream,
}

/// The next moment at which a limit of the connection may pass.
fn next_limit(session: &Session) -> Option<(Instant, What)> {
    let manager = &session.manager;
    let idle = session.active.get() == 0;
    let mut next: Option<(Instant, What)> = None;
    let mut consider = |at: Instant, what: What| {
        if next.is_none_or(|(earliest, _)| at < earliest) {
            next = Some((at, what));
        }
    };
    if idle {
        if let Some(limit) = manager.idle_timeout {
            consider(session.idle_since.get() + limit, What::Idle);
        }
        if let Some(at) = session.leaves.get() {
            consider(at, What::Leaving);
        }
        if session.draining.get() {
            consider(session.idle_since.get().max(session.connection.start) + DRAINED_GRACE, What::Drained);
        }
        if let Some(at) = session.refused_at.get() {
            consider(at + DRAINED_GRACE, What::Drained);
        } else if let (Some(limit), false) = (manager.request_headers_timeout, session.http2)
            && session.traffic.received() > session.received_when_idle.get()
        {
            let since = session.head_since.get().unwrap_or_else(Instant::now);
            session.head_since.set(Some(since));
            consider(since + limit, What::Head);
        }
    }
    if let (Some(limit), false) = (manager.max_connection_duration, session.draining.get()) {
        consider(session.connection.start + limit, What::Duration);
    }
    if let Some(at) = session.deadlines.earliest() {
        consider(at, What::Stream);
    }
    next
}

/// Acts on a limit that passed; false if the connection ends now.
fn expire(session: &Session, what: What) -> bool {
    let stats = &session.manager.stats;
    match what {
        What::Idle => {
            stats.cx_idle_timeout.inc();
            if session.http2 && !session.draining.get() {
                session.idle_since.set(Instant::now());
                session.draining.set(true);
                return true;
            }
            false
        }
        What::Head => {
            stats.rq_header_timeout.inc();
            match &session.guard {
                None => false,
                Some(guard) => {
                    guard.refuse(Refusal::TIMEOUT);
                    session.refused_at.set(Some(Instant::now()));
                    true
                }
            }
        }
        What::Duration => {
            stats.cx_max_duration_reached.inc();
            session.draining.set(true);
            true
        }
        What::Leaving => {
            session.leaves.set(None);
            session.draining.set(true);
            true
        }
        What::Drained => false,
        What::Stream => session.deadlines.expire(Instant::now()),
    }
}
