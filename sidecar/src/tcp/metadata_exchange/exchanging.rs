//! A connection whose bytes have a frame ahead of them in each direction: ours is put before what is written, the peer's
//! is taken from what is read. Neither side waits for the other's: ours goes with the first byte of either direction,
//! whoever speaks first. Source: Istio's `MetadataExchangeFilter::onData` and `onWrite`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{self, First};
use super::{MetadataExchange, config};
use crate::io::Io;
use crate::observe::workload::Told;

pub struct Exchanging<I> {
    io: I,
    filter: Arc<MetadataExchange>,
    told: Told,
    own: Own,
    reading: Reading,
    /// Waits for our frame to be gone, in a task that may not be the reader's.
    writer: Option<Waker>,
}

/// Our frame's way.
enum Own {
    /// No byte has passed in either direction.
    Kept,
    Going(Bytes),
    Sent,
}

enum Reading {
    /// The peer's frame, as far as it came.
    Frame(BytesMut),
    /// What came behind the frame, or in its place.
    Rest(Bytes),
    Through,
}

const CHUNK: usize = 2 << 10;

impl<I: Io> Exchanging<I> {
    pub fn new(io: I, filter: Arc<MetadataExchange>, told: Told) -> Self {
        Exchanging { io, filter, told, own: Own::Kept, reading: Reading::Frame(BytesMut::new()), writer: None }
    }

    fn begin(&mut self) {
        if let Own::Kept = self.own {
            self.filter.stats.metadata_added.inc();
            self.own = Own::Going(self.filter.own.clone());
        }
    }

    /// Sends what is left of our frame, once it goes.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Own::Going(left) = &mut self.own else { return Poll::Ready(Ok(())) };
        while left.has_remaining() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, left))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            left.advance(n);
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.own = Own::Sent;
        Poll::Ready(Ok(()))
    }

    /// The same before bytes of the writer's.
    fn poll_own_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.poll_own(cx);
        self.writer = sent.is_pending().then(|| cx.waker().clone());
        sent
    }

    /// The same for a reader, who waits for something else. A connection remembers one task to wake when it can be
    /// written to again, and that is the reader's now: the writer's is woken by it.
    fn push_own(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Poll::Ready(done) = self.poll_own(cx) else { return Ok(()) };
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        done
    }

    /// Reads on until the first bytes are known for what they are.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Reading::Frame(seen) = &mut self.reading {
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut chunk))?;
            let ended = chunk.filled().is_empty();
            seen.extend_from_slice(chunk.filled());
            let first = frame::first(seen);
            let rest = std::mem::take(seen);
            self.reading = match first {
                // Of a frame that was begun nothing is data.
                First::Part if ended && rest.len() >= frame::HEADER => self.missed(BytesMut::new()),
                First::Part if ended => self.missed(rest),
                First::Part => Reading::Frame(rest),
                First::Frame(content) => self.met(&content, rest),
                First::Other => self.missed(rest),
                First::TooLarge => {
                    self.filter.stats.header_not_found.inc();
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "metadata are too large")));
                }
            };
            self.begin();
            self.push_own(cx)?;
        }
        Poll::Ready(Ok(()))
    }

    fn met(&self, content: &[u8], rest: BytesMut) -> Reading {
        let peer = config::peer(content, &self.filter.labels);
        if peer.is_none() {
            self.filter.stats.header_not_found.inc();
        }
        self.told.settle(peer);
        Reading::Rest(rest.freeze())
    }

    /// The peer doesn't take part: what came is its first bytes.
    fn missed(&self, rest: BytesMut) -> Reading {
        self.filter.stats.initial_header_not_found.inc();
        self.told.settle(None);
        Reading::Rest(rest.freeze())
    }
}

impl<I: Io> AsyncRead for Exchanging<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.push_own(cx)?;
        ready!(self.poll_frame(cx))?;
        if let Reading::Rest(rest) = &mut self.reading {
            if rest.has_remaining() {
                let n = rest.len().min(buf.remaining());
                buf.put_slice(&rest.split_to(n));
                return Poll::Ready(Ok(()));
            }
            self.reading = Reading::Through;
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: Io> AsyncWrite for Exchanging<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.begin();
        ready!(self.poll_own_first(cx))?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin();
        ready!(self.poll_own_first(cx))?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own_first(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.begin();
        ready!(self.poll_own_first(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
