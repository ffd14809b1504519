//! One connection: begun in the protocol that was agreed on, driven until it ends, and counted then.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::{Active, Permit, Pool, Speaks};
use crate::body::RequestBody;
use crate::io::{Counted, Io, gather};
use crate::stream::{Protocol, TlsInfo};
use crate::upstream::connect::{ConnectError, Established};

/// What is known about one connection while requests use it.
pub struct Link {
    pub protocol: Protocol,
    pub local: Option<std::net::SocketAddr>,
    pub tls: Option<Arc<TlsInfo>>,
    pub id: u64,
    pub(super) born: Instant,
    pub(super) served: Cell<u64>,
    pub(super) active: Cell<u32>,
    pub(super) idle_since: Cell<Option<Instant>>,
    /// No more requests: too old, too many, or its host is gone.
    pub(super) retired: Cell<bool>,
    pub(super) closed_by_us: Cell<bool>,
}

pub(super) struct Http1 {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) link: Rc<Link>,
}

#[derive(Clone)]
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) link: Rc<Link>,
}

/// One connection, or one stream of it, for one request.
pub(super) enum Lease {
    Http1(Http1),
    Http2(Http2),
}

impl Lease {
    pub(super) fn link(&self) -> &Rc<Link> {
        match self {
            Lease::Http1(c) => &c.link,
            Lease::Http2(c) => &c.link,
        }
    }
}

thread_local! {
    static NEXT_LINK: Cell<u64> = const { Cell::new(1) };
}

impl Pool {
    /// Begins the protocol that was agreed on.
    ///
    /// # Errors
    /// The peer ended the connection before it could be used.
    pub(super) async fn handshake(
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
        let Established { io, local, tls, .. } = established;
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
}

/// Runs hyper's HTTP/2 tasks on this thread.
#[derive(Clone, Copy)]
pub struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
