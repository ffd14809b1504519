//! Collects what an HTTP/2 connection writes and sends it in one piece.
//!
//! The h2 crate makes one write for each DATA frame of 256 bytes and more. Here a write only fills a
//! buffer and wakes a task of the connection's own; that task runs after the tasks that are ready
//! now, so everything they wrote goes out in one system call (and one TLS record).

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Io;

/// Writers wait while more than this is buffered.
const HIGH_WATER: usize = 128 << 10;
/// A buffer that grew beyond this is given back once it is empty.
const KEEP: usize = 64 << 10;

struct Shared<I> {
    io: I,
    buffer: BytesMut,
    /// The connection dropped its half: flush what is left, then end.
    closing: bool,
    failed: Option<io::ErrorKind>,
    flusher: Option<Waker>,
    writer: Option<Waker>,
}

/// The connection's half.
pub struct Gathered<I>(Rc<RefCell<Shared<I>>>);

struct Flusher<I>(Rc<RefCell<Shared<I>>>);

/// Wraps `io`; spawns the flushing task on this thread's `LocalSet`.
pub fn gather<I: Io>(io: I) -> Gathered<I> {
    let shared = Rc::new(RefCell::new(Shared {
        io,
        buffer: BytesMut::new(),
        closing: false,
        failed: None,
        flusher: None,
        writer: None,
    }));
    tokio::task::spawn_local(Flusher(shared.clone()));
    Gathered(shared)
}

impl<I: Io> Shared<I> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.buffer.is_empty() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.buffer))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.advance(n);
        }
        if self.buffer.capacity() > KEEP {
            self.buffer = BytesMut::new();
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }
}

impl<I> Shared<I> {
    fn wake_flusher(&mut self) {
        if let Some(waker) = self.flusher.take() {
            waker.wake();
        }
    }
}

impl<I: Io> Future for Flusher<I> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = &mut *self.0.borrow_mut();
        let drained = shared.poll_drain(cx);
        if let Poll::Ready(Err(error)) = &drained {
            shared.failed = Some(error.kind());
        }
        if (drained.is_ready() || shared.buffer.len() < HIGH_WATER / 2)
            && let Some(waker) = shared.writer.take()
        {
            waker.wake();
        }
        if shared.failed.is_some() || (shared.closing && drained.is_ready()) {
            return Poll::Ready(());
        }
        shared.flusher = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<I> Drop for Gathered<I> {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.closing = true;
        shared.wake_flusher();
    }
}

impl<I: Io> AsyncRead for Gathered<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_read(cx, buf)
    }
}

impl<I: Io> AsyncWrite for Gathered<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.borrow_mut();
        if let Some(kind) = shared.failed {
            return Poll::Ready(Err(kind.into()));
        }
        if shared.buffer.len() >= HIGH_WATER {
            shared.writer = Some(cx.waker().clone());
            shared.wake_flusher();
            return Poll::Pending;
        }
        if shared.buffer.is_empty() {
            shared.wake_flusher();
        }
        for buf in bufs {
            shared.buffer.extend_from_slice(buf);
        }
        Poll::Ready(Ok(bufs.iter().map(|b| b.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.borrow().failed {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.borrow_mut();
        ready!(shared.poll_drain(cx))?;
        Pin::new(&mut shared.io).poll_shutdown(cx)
    }
}
