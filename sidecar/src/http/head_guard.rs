//! Looks at each HTTP/1 head before the codec does, and puts Envoy's words into the codec's refusals.
//!
//! The codec is strict, but it mends some heads that Envoy refuses (two lengths, a length beside chunks) and answers
//! what it refuses without a body. A head is held back until it is complete; what must not pass is replaced by bytes
//! that the codec refuses, and the codec's reply by ours. Nothing is looked at where it isn't certain that a head
//! begins (pipelined requests): there the codec decides alone.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwapOption;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::ResponseFlags;

/// Why a request is refused before anybody has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub body: &'static str,
    pub details: &'static str,
    pub flags: ResponseFlags,
}

impl Refusal {
    const fn new(status: u16, body: &'static str, details: &'static str) -> Self {
        Refusal { status, body, details, flags: ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR }
    }

    const BAD: Refusal = Refusal::new(400, "Bad Request", "http1.codec_error");
    const BOTH: Refusal = Refusal::new(400, "Bad Request", "http1.content_length_and_chunked_not_allowed");
    const CHARACTERS: Refusal = Refusal::new(400, "Bad Request", "http1.invalid_characters");
    const ENCODING: Refusal = Refusal::new(501, "Not Implemented", "http1.invalid_transfer_encoding");
    const VERSION: Refusal = Refusal::new(426, "Upgrade Required", "low_version");
    const COUNT: Refusal = Refusal::new(431, "Request Header Fields Too Large", "http1.too_many_headers");
    const SIZE: Refusal = Refusal::new(431, "Request Header Fields Too Large", "http1.headers_too_large");
    /// The head took too long to come.
    pub const TIMEOUT: Refusal = Refusal {
        status: 408,
        body: "request header timeout",
        details: "request_header_timeout",
        flags: ResponseFlags::NONE,
    };
}

/// What bounds a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    pub bytes: usize,
    pub headers: usize,
}

/// What the connection and its guard tell each other.
#[derive(Default)]
pub struct GuardState {
    /// The codec is between two requests.
    between: AtomicBool,
    refusal: ArcSwapOption<Refusal>,
}

impl GuardState {
    pub fn set_between(&self, between: bool) {
        self.between.store(between, Relaxed);
    }

    /// Refuses whatever comes next.
    pub fn refuse(&self, refusal: Refusal) {
        self.refusal.store(Some(Arc::new(refusal)));
    }

    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.load().as_deref().copied()
    }
}

/// What follows the last head that passed.
enum Follows {
    Nothing,
    /// So many bytes more.
    Length(u64),
    /// Chunks; the last bytes that passed tell whether they have ended.
    Chunks([u8; 3]),
    /// Another request came right behind: not to be told apart from here.
    Unknown,
}

/// A connection whose heads are looked at.
pub struct Guarded<I> {
    io: I,
    state: Arc<GuardState>,
    limits: HeadLimits,
    server: String,
    follows: Follows,
    /// The part of a head that has come.
    held: Vec<u8>,
    /// What goes to the codec before anything else.
    ready: Vec<u8>,
    given: usize,
    spoiled: bool,
    /// Our reply in the codec's reply's place, and how much of it is written.
    reply: Option<(Vec<u8>, usize)>,
}

/// No method begins so: the codec refuses it.
const SPOILED: &[u8] = b"\0\r\n\r\n";

impl<I> Guarded<I> {
    /// `server` is the name in our replies.
    pub fn new(io: I, limits: HeadLimits, server: String) -> (Self, Arc<GuardState>) {
        let state = Arc::new(GuardState::default());
        state.set_between(true);
        let guarded = Guarded {
            io,
            state: state.clone(),
            limits,
            server,
            follows: Follows::Nothing,
            held: Vec::new(),
            ready: Vec::new(),
            given: 0,
            spoiled: false,
            reply: None,
        };
        (guarded, state)
    }

    fn at_head(&self) -> bool {
        self.state.between.load(Relaxed)
            && match &self.follows {
                Follows::Nothing | Follows::Length(0) => true,
                Follows::Chunks(tail) => tail == b"\n\r\n",
                Follows::Length(_) | Follows::Unknown => false,
            }
    }

    /// Keeps count of what passes behind a head.
    fn passed(&mut self, bytes: &[u8]) {
        match &mut self.follows {
            Follows::Nothing if !bytes.is_empty() => self.follows = Follows::Unknown,
            Follows::Length(left) => match left.checked_sub(bytes.len() as u64) {
                Some(rest) => *left = rest,
                None => self.follows = Follows::Unknown,
            },
            Follows::Chunks(tail) => {
                for byte in bytes.iter().skip(bytes.len().saturating_sub(3)) {
                    tail.rotate_left(1);
                    tail[2] = *byte;
                }
            }
            Follows::Nothing | Follows::Unknown => {}
        }
    }

    fn spoil(&mut self, buf: &mut ReadBuf<'_>) {
        self.spoiled = true;
        buf.put_slice(&SPOILED[..SPOILED.len().min(buf.remaining())]);
    }

    /// Judges the head at the beginning of `bytes`, if it is complete. `None`: more must come.
    fn judge(&mut self, bytes: &[u8]) -> Option<Result<Option<Vec<u8>>, Refusal>> {
        let Some(end) = head_end(bytes) else {
            return (bytes.len() > self.limits.bytes).then_some(Err(Refusal::SIZE));
        };
        if end > self.limits.bytes {
            return Some(Err(Refusal::SIZE));
        }
        let (head, rest) = bytes.split_at(end);
        let (follows, folded) = match check(head, self.limits.headers) {
            Ok(checked) => checked,
            Err(refusal) => return Some(Err(refusal)),
        };
        self.follows = follows;
        self.state.set_between(false);
        self.passed(rest);
        Some(Ok(folded.map(|mut head| {
            head.extend_from_slice(rest);
            head
        })))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Guarded<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.given < this.ready.len() {
                let rest = this.ready.get(this.given..).unwrap_or_default();
                let n = rest.len().min(buf.remaining());
                buf.put_slice(rest.get(..n).unwrap_or_default());
                this.given += n;
                return Poll::Ready(Ok(()));
            }
            if !this.spoiled && this.state.refusal.load().is_some() {
                this.spoil(buf);
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let came = buf.filled().len() - before;
            if this.spoiled || !this.at_head() {
                let bytes = buf.filled().get(before..).unwrap_or_default();
                this.passed(bytes);
                return Poll::Ready(Ok(()));
            }
            if came == 0 {
                (this.ready, this.given) = (std::mem::take(&mut this.held), 0);
                if this.ready.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                this.follows = Follows::Unknown;
                continue;
            }
            let whole = if this.held.is_empty() {
                None
            } else {
                this.held.extend_from_slice(buf.filled().get(before..).unwrap_or_default());
                Some(std::mem::take(&mut this.held))
            };
            let bytes = whole.as_deref().unwrap_or(buf.filled().get(before..).unwrap_or_default());
            match this.judge(bytes) {
                // The usual case: a whole head in one read stays where it is.
                Some(Ok(None)) if whole.is_none() => return Poll::Ready(Ok(())),
                Some(Ok(folded)) => {
                    (this.ready, this.given) = (folded.or(whole).unwrap_or_default(), 0);
                }
                Some(Err(refusal)) => this.state.refuse(refusal),
                None => {
                    let bytes = bytes.to_vec();
                    this.held = whole.unwrap_or(bytes);
                }
            }
            buf.set_filled(before);
        }
    }
}

impl<I: AsyncWrite + Unpin> Guarded<I> {
    /// Our reply, if what is to be written is a refusal of the codec's own.
    fn replaced(&mut self, bytes: &[u8]) -> bool {
        if self.reply.is_some() {
            return true;
        }
        let Some(date) = codec_refusal(bytes) else { return false };
        let refusal = self.state.refusal().unwrap_or_else(|| {
            let own = if bytes.starts_with(b"HTTP/1.1 431") || bytes.starts_with(b"HTTP/1.1 414") {
                Refusal::SIZE
            } else {
                Refusal::BAD
            };
            self.state.refuse(own);
            own
        });
        let reason = http::StatusCode::from_u16(refusal.status).ok().and_then(|s| s.canonical_reason()).unwrap_or("");
        let text = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-length: {}\r\ncontent-type: text/plain\r\ndate: {date}\r\nserver: {}\r\n\
             connection: close\r\n\r\n{}",
            refusal.status,
            refusal.body.len(),
            self.server,
            refusal.body
        );
        self.reply = Some((text.into_bytes(), 0));
        true
    }

    /// Writes what is left of our reply; then the codec's counts as written.
    fn poll_reply(&mut self, cx: &mut Context<'_>, instead_of: usize) -> Poll<io::Result<usize>> {
        while let Some((reply, written)) = &mut self.reply {
            let rest = reply.get(*written..).unwrap_or_default();
            if rest.is_empty() {
                self.reply = None;
                break;
            }
            *written += ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
        }
        Poll::Ready(Ok(instead_of))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Guarded<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.replaced(buf) {
            return this.poll_reply(cx, buf.len());
        }
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = bufs.iter().find(|b| !b.is_empty()).map_or(&[][..], |b| b);
        if this.replaced(first) {
            return this.poll_reply(cx, bufs.iter().map(|b| b.len()).sum());
        }
        Pin::new(&mut this.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The date of a refusal that the codec wrote itself: it has these three headers and no other.
fn codec_refusal(bytes: &[u8]) -> Option<&str> {
    if !bytes.starts_with(b"HTTP/1.1 4") || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let mut date = None;
    for line in std::str::from_utf8(bytes).ok()?.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
        match line.split_once(": ")? {
            ("date", value) => date = Some(value),
            ("content-length", "0") | ("connection", "close") => {}
            _ => return None,
        }
    }
    date
}

/// Behind the empty line that ends a head; empty lines before it do not count (RFC 9112, 2.2).
fn head_end(bytes: &[u8]) -> Option<usize> {
    let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
    let mut from = start;
    loop {
        let at = from + memchr::memchr(b'\n', bytes.get(from..)?)?;
        match bytes.get(at + 1..) {
            Some([b'\n', ..]) => return Some(at + 2),
            Some([b'\r', b'\n', ..]) => return Some(at + 3),
            _ => from = at + 1,
        }
    }
}

/// What follows the head, and the head with its folded lines joined where it has some.
fn check(head: &[u8], most: usize) -> Result<(Follows, Option<Vec<u8>>), Refusal> {
    let start = head.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(0);
    let head = head.get(start..).unwrap_or_default();
    let mut lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    request_line(lines.next().unwrap_or_default())?;
    let (mut count, mut lengths, mut length, mut encodings, mut chunked, mut folded) = (0, 0, 0u64, 0, false, false);
    for line in lines.filter(|line| !line.is_empty()) {
        if matches!(line, [b' ' | b'\t', ..]) {
            folded = true;
            continue;
        }
        count += 1;
        match line.first() {
            Some(b'c' | b'C') if name_is(line, b"content-length") => {
                lengths += 1;
                length = number(line.get(15..).unwrap_or_default()).ok_or(Refusal::BAD)?;
            }
            Some(b't' | b'T') if name_is(line, b"transfer-encoding") => {
                encodings += 1;
                chunked = line.get(18..).unwrap_or_default().trim_ascii().eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
    }
    if memchr::memchr(0, head).is_some() {
        return Err(Refusal::CHARACTERS);
    }
    if count > most {
        return Err(Refusal::COUNT);
    }
    let follows = match (lengths, encodings) {
        (0, 0) => Follows::Nothing,
        (1, 0) => Follows::Length(length),
        (_, 0) => return Err(Refusal::BAD),
        (0, 1) if chunked => Follows::Chunks([0; 3]),
        (0, _) => return Err(Refusal::ENCODING),
        (_, _) => return Err(Refusal::BOTH),
    };
    Ok((follows, folded.then(|| unfold(head))))
}

/// The version must be one that is spoken here, the target without a fragment. The rest is the codec's to judge.
fn request_line(line: &[u8]) -> Result<(), Refusal> {
    let Some(at) = memchr::memrchr(b' ', line) else { return Ok(()) };
    let (target, version) = line.split_at(at);
    if let Some(version) = version.get(1..)
        && version.starts_with(b"HTTP/")
        && !matches!(version, b"HTTP/1.1" | b"HTTP/1.0")
    {
        return Err(Refusal::VERSION);
    }
    if memchr::memchr(b'#', target).is_some() {
        return Err(Refusal::BAD);
    }
    Ok(())
}

fn name_is(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)) && line.get(name.len()) == Some(&b':')
}

/// Digits and nothing else: no sign, no list.
fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Joins lines that begin with white space to the one before (RFC 9112, 5.2).
fn unfold(head: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(head.len());
    for line in head.split_inclusive(|b| *b == b'\n') {
        if matches!(line, [b' ' | b'\t', ..]) {
            while matches!(out.last(), Some(b'\r' | b'\n' | b' ' | b'\t')) {
                out.pop();
            }
            out.push(b' ');
            out.extend_from_slice(line.trim_ascii_start());
        } else {
            out.extend_from_slice(line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn heads() {
        let refused = |head: &str, expected: Option<Refusal>| {
            assert_eq!(check(head.as_bytes(), 3).err(), expected, "{head}");
        };
        refused("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None);
        refused("\r\nGET / HTTP/1.0\nHost: a\n\n", None);
        refused("GET / HTTP/3.7\r\n\r\n", Some(Refusal::VERSION));
        refused("GET /#a HTTP/1.1\r\n\r\n", Some(Refusal::BAD));
        refused("POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", Some(Refusal::BAD));
        refused("POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n", Some(Refusal::BAD));
        refused("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", Some(Refusal::BAD));
        refused("POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n", None);
        refused("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", Some(Refusal::ENCODING));
        refused("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", Some(Refusal::BOTH));
        refused("GET / HTTP/1.1\r\nx: a\0b\r\n\r\n", Some(Refusal::CHARACTERS));
        refused("GET / HTTP/1.1\r\na: 1\r\nb: 1\r\nc: 1\r\nd: 1\r\n\r\n", Some(Refusal::COUNT));
        let folded = check(b"GET / HTTP/1.1\r\nx: one\r\n two\r\n\r\n", 3).ok().and_then(|(_, folded)| folded);
        assert_eq!(folded.as_deref(), Some(&b"GET / HTTP/1.1\r\nx: one two\r\n\r\n"[..]));
        assert_eq!(head_end(b"\r\nGET / HTTP/1.1\r\n\r\nrest"), Some(20));
        assert_eq!(head_end(b"GET / HTTP/1.1\r\n"), None);
    }

    #[tokio::test]
    async fn what_is_refused_never_reaches_the_codec() {
        let (mut caller, io) = tokio::io::duplex(1024);
        let (mut guarded, state) = Guarded::new(io, HeadLimits { bytes: 100, headers: 10 }, "envoy".to_owned());
        caller.write_all(b"GET / HT").await.unwrap();
        caller.write_all(b"TP/1.1\r\n\r\n").await.unwrap();
        let mut seen = vec![0; 64];
        let n = guarded.read(&mut seen).await.unwrap();
        assert_eq!(&seen[..n], b"GET / HTTP/1.1\r\n\r\n");
        state.set_between(true);
        caller.write_all(b"POST / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n").await.unwrap();
        let n = guarded.read(&mut seen).await.unwrap();
        assert_eq!((&seen[..n], state.refusal()), (SPOILED, Some(Refusal::ENCODING)));
        let codecs = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: today\r\n\r\n";
        guarded.write_all(codecs).await.unwrap();
        drop(guarded);
        let mut reply = String::new();
        caller.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 501 Not Implemented\r\n") && reply.ends_with("\r\n\r\nNot Implemented"));
    }
}
