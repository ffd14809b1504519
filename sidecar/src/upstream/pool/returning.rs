//! A connection in use by one request, and how it comes back to its pool.

use std::rc::Rc;
use std::time::Instant;

use super::Pool;
use super::connection::{Lease, Link};
use super::stream_error::body_error;
use crate::body::{BodyError, Observe};
use crate::error::{ProxyError, ResetReason};

/// Counts a request on a connection while it lives.
pub(super) struct Using {
    pool: Rc<Pool>,
    link: Rc<Link>,
    pub(super) failed: bool,
}

impl Using {
    pub(super) fn new(pool: Rc<Pool>, link: Rc<Link>) -> Self {
        link.active.set(link.active.get() + 1);
        Using { pool, link, failed: false }
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        self.link.active.set(self.link.active.get().saturating_sub(1));
        // An HTTP/1 connection is idle from when it is offered again.
        if self.link.active.get() == 0 && !self.failed && self.link.protocol.is_http2() {
            self.link.idle_since.set(Some(Instant::now()));
            self.pool.sweep_idle();
        }
    }
}

/// Gives an HTTP/1 connection back when the response's body is complete.
pub(super) struct Returning {
    pub(super) lease: Option<Lease>,
    pub(super) using: Using,
    pub(super) complete: bool,
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
