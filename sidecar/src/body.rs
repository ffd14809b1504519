//! The two bodies that flow through the proxy: a request's on its way up, a response's on its way
//! down. Both are enums over the few things a body can be, so the common case needs no allocation.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::error::ProxyError;

/// Why a body ended early. Seen by hyper, which resets or closes the peer's side.
#[derive(Debug)]
pub enum BodyError {
    Transport(hyper::Error),
    Proxy(ProxyError),
    /// A filter or limit cut the body; the words are for the log.
    Cut(&'static str),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Transport(error) => error.fmt(f),
            BodyError::Proxy(error) => error.fmt(f),
            BodyError::Cut(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BodyError::Transport(error) => Some(error),
            BodyError::Proxy(error) => Some(error),
            BodyError::Cut(_) => None,
        }
    }
}

pub type BodyFrame = Result<Frame<Bytes>, BodyError>;

/// A body of any other kind (compressed, generated, watched …).
pub type LocalBody = Pin<Box<dyn Body<Data = Bytes, Error = BodyError>>>;

/// How far the caller's request has come. Timers that start when the request is complete wait here.
#[derive(Debug, Default)]
pub struct Progress {
    complete: Cell<bool>,
    received: Cell<u64>,
    moved: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
}

impl Progress {
    pub fn completed() -> Rc<Self> {
        let progress = Progress::default();
        progress.complete.set(true);
        Rc::new(progress)
    }

    pub fn is_complete(&self) -> bool {
        self.complete.get()
    }

    /// Body bytes seen so far.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// When a part of the request last came.
    pub fn moved(&self) -> Option<Instant> {
        self.moved.get()
    }

    /// True once complete; else the task is woken when it is.
    pub fn poll_complete(&self, cx: &Context<'_>) -> bool {
        if self.complete.get() {
            return true;
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        false
    }

    fn finish(&self) {
        self.complete.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

enum RequestKind {
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Replay(Replay),
    Local(LocalBody),
}

/// A request's body.
pub struct RequestBody {
    kind: RequestKind,
    /// Told what passes; only the body nearest to the caller has it.
    progress: Option<Rc<Progress>>,
}

impl RequestBody {
    pub fn empty() -> Self {
        RequestBody { kind: RequestKind::Empty, progress: None }
    }

    pub fn full(bytes: Bytes) -> Self {
        let kind = if bytes.is_empty() { RequestKind::Empty } else { RequestKind::Full(bytes) };
        RequestBody { kind, progress: None }
    }

    /// The caller's body as it comes from the wire, and its progress.
    pub fn incoming(body: Incoming) -> (Self, Rc<Progress>) {
        if body.is_end_stream() {
            return (RequestBody::empty(), Progress::completed());
        }
        let progress = Rc::new(Progress::default());
        (RequestBody { kind: RequestKind::Incoming(body), progress: Some(progress.clone()) }, progress)
    }

    /// Puts a body of our own in its place, made of what it was.
    pub fn wrap<B>(&mut self, make: impl FnOnce(Self) -> B)
    where
        B: Body<Data = Bytes, Error = BodyError> + 'static,
    {
        let before = std::mem::replace(self, Self::empty());
        *self = Self::local(Box::pin(make(before)));
    }

    pub fn local(body: LocalBody) -> Self {
        RequestBody { kind: RequestKind::Local(body), progress: None }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.kind, RequestKind::Empty)
    }

    /// Makes the body able to be sent again, keeping up to `limit` bytes of it.
    pub fn replayable(self, limit: usize) -> Self {
        match self.kind {
            RequestKind::Empty | RequestKind::Full(_) | RequestKind::Replay(_) => self,
            _ => RequestBody { kind: RequestKind::Replay(Replay::new(self, limit)), progress: None },
        }
    }

    /// The same body from its beginning, if all that was sent of it is still known.
    pub fn again(&self) -> Option<Self> {
        let kind = match &self.kind {
            RequestKind::Empty => RequestKind::Empty,
            RequestKind::Full(bytes) => RequestKind::Full(bytes.clone()),
            RequestKind::Replay(replay) => RequestKind::Replay(replay.again()?),
            RequestKind::Incoming(_) | RequestKind::Local(_) => return None,
        };
        Some(RequestBody { kind, progress: None })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BodyFrame>> {
        let polled = match &mut self.kind {
            RequestKind::Empty => Poll::Ready(None),
            RequestKind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = RequestKind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            RequestKind::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Transport),
            RequestKind::Replay(replay) => replay.poll_frame(cx),
            RequestKind::Local(body) => body.as_mut().poll_frame(cx),
        };
        if let (Some(progress), Poll::Ready(frame)) = (&self.progress, &polled) {
            match frame {
                Some(Ok(frame)) => {
                    progress.moved.set(Some(Instant::now()));
                    if let Some(data) = frame.data_ref() {
                        progress.received.set(progress.received.get() + data.len() as u64);
                    }
                    if frame.is_trailers() || self.is_end_stream() {
                        progress.finish();
                    }
                }
                Some(Err(_)) => {}
                None => progress.finish(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            RequestKind::Empty => true,
            RequestKind::Full(_) => false,
            RequestKind::Incoming(body) => body.is_end_stream(),
            RequestKind::Replay(replay) => replay.is_end_stream(),
            RequestKind::Local(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            RequestKind::Empty => SizeHint::with_exact(0),
            RequestKind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            RequestKind::Incoming(body) => body.size_hint(),
            RequestKind::Replay(replay) => replay.size_hint(),
            RequestKind::Local(body) => body.size_hint(),
        }
    }
}

/// A body that keeps what passed, for the next try.
struct Replay {
    shared: Rc<RefCell<ReplayState>>,
    /// Kept frames already given out by this try.
    next: usize,
}

struct ReplayState {
    source: Box<RequestBody>,
    hint: SizeHint,
    kept: VecDeque<Kept>,
    size: usize,
    limit: usize,
    /// More passed than may be kept: no other try.
    overflowed: bool,
    ended: bool,
}

enum Kept {
    Data(Bytes),
    Trailers(http::HeaderMap),
}

impl Replay {
    fn new(source: RequestBody, limit: usize) -> Self {
        let hint = source.size_hint();
        let state = ReplayState {
            source: Box::new(source),
            hint,
            kept: VecDeque::new(),
            size: 0,
            limit,
            overflowed: false,
            ended: false,
        };
        Replay { shared: Rc::new(RefCell::new(state)), next: 0 }
    }

    fn again(&self) -> Option<Self> {
        if self.shared.borrow().overflowed {
            return None;
        }
        Some(Replay { shared: self.shared.clone(), next: 0 })
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<BodyFrame>> {
        let mut state = self.shared.borrow_mut();
        if !state.overflowed {
            match state.kept.get(self.next) {
                Some(Kept::Data(bytes)) => {
                    self.next += 1;
                    return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
                }
                Some(Kept::Trailers(map)) => {
                    self.next += 1;
                    return Poll::Ready(Some(Ok(Frame::trailers(map.clone()))));
                }
                None => {}
            }
        }
        if state.ended {
            return Poll::Ready(None);
        }
        let polled = std::task::ready!(Pin::new(&mut *state.source).poll_frame(cx));
        match &polled {
            None => state.ended = true,
            Some(Err(_)) => state.overflowed = true,
            Some(Ok(frame)) => {
                if state.keep(frame) {
                    self.next += 1;
                }
                state.ended = state.source.is_end_stream();
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.shared.borrow();
        state.ended && (state.overflowed || self.next >= state.kept.len())
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.shared.borrow();
        if self.next == 0 { state.hint } else { SizeHint::default() }
    }
}

impl ReplayState {
    fn keep(&mut self, frame: &Frame<Bytes>) -> bool {
        if self.overflowed {
            return false;
        }
        if let Some(data) = frame.data_ref() {
            self.size += data.len();
            if self.size > self.limit {
                self.overflowed = true;
                self.kept.clear();
                return false;
            }
            self.kept.push_back(Kept::Data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.kept.push_back(Kept::Trailers(trailers.clone()));
        }
        true
    }
}

/// Sees each frame of a response on its way down, and its end (by being dropped).
pub trait Observe {
    /// Called with each frame; may end the body with an error.
    ///
    /// # Errors
    /// The body ends here with the error.
    fn frame(&mut self, frame: &mut Frame<Bytes>) -> Result<(), BodyError>;

    /// Called when polled and nothing was there; may end the body.
    fn idle(&mut self, _cx: &mut Context<'_>) -> Option<BodyError> {
        None
    }

    /// The body ended: `Ok` when it was complete.
    fn end(&mut self, _outcome: Result<(), &BodyError>) {}
}

enum ResponseKind {
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Local(LocalBody),
}

/// A response's body, with whoever watches it. Watchers are dropped with it.
pub struct ResponseBody {
    kind: ResponseKind,
    /// Innermost first: the one nearest to the upstream sees a frame first.
    observers: smallvec::SmallVec<[Box<dyn Observe>; 2]>,
    ended: bool,
}

impl ResponseBody {
    pub fn empty() -> Self {
        Self::of(ResponseKind::Empty)
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Self::of(ResponseKind::Full(bytes)) }
    }

    pub fn incoming(body: Incoming) -> Self {
        Self::of(ResponseKind::Incoming(body))
    }

    /// Puts a body of our own in its place, made of what it was.
    pub fn wrap<B>(&mut self, make: impl FnOnce(Self) -> B)
    where
        B: Body<Data = Bytes, Error = BodyError> + 'static,
    {
        let before = std::mem::replace(self, Self::empty());
        *self = Self::local(Box::pin(make(before)));
    }

    pub fn local(body: LocalBody) -> Self {
        Self::of(ResponseKind::Local(body))
    }

    fn of(kind: ResponseKind) -> Self {
        ResponseBody { kind, observers: smallvec::SmallVec::new(), ended: false }
    }

    pub fn observe(&mut self, observer: impl Observe + 'static) {
        self.observers.push(Box::new(observer));
    }

    fn finish(&mut self, outcome: Result<(), &BodyError>) {
        if !std::mem::replace(&mut self.ended, true) {
            self.observers.iter_mut().for_each(|o| o.end(outcome));
        }
    }

    fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Option<BodyFrame>> {
        match &mut self.kind {
            ResponseKind::Empty => Poll::Ready(None),
            ResponseKind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = ResponseKind::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            ResponseKind::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Transport),
            ResponseKind::Local(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn kind_ended(&self) -> bool {
        match &self.kind {
            ResponseKind::Empty => true,
            ResponseKind::Full(_) => false,
            ResponseKind::Incoming(body) => body.is_end_stream(),
            ResponseKind::Local(body) => body.is_end_stream(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // Hyper doesn't poll a body that says it is at its end.
        if self.kind_ended() {
            self.finish(Ok(()));
        } else {
            self.finish(Err(&BodyError::Proxy(ProxyError::DownstreamGone)));
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BodyFrame>> {
        let this = &mut *self;
        match this.poll_kind(cx) {
            Poll::Pending => {
                let failed = this.observers.iter_mut().find_map(|o| o.idle(cx));
                match failed {
                    None => Poll::Pending,
                    Some(error) => {
                        this.finish(Err(&error));
                        Poll::Ready(Some(Err(error)))
                    }
                }
            }
            Poll::Ready(None) => {
                this.finish(Ok(()));
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                this.finish(Err(&error));
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                for observer in &mut this.observers {
                    if let Err(error) = observer.frame(&mut frame) {
                        this.finish(Err(&error));
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                if this.kind_ended() {
                    this.finish(Ok(()));
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.kind_ended()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            ResponseKind::Empty => SizeHint::with_exact(0),
            ResponseKind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ResponseKind::Incoming(body) => body.size_hint(),
            ResponseKind::Local(body) => body.size_hint(),
        }
    }
}
