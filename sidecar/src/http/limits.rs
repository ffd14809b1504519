//! The time limits of one request on its way through the proxy: how long nothing may move, how long the caller
//! may take to send it, how long the whole exchange may last. One timer a connection serves all its requests:
//! [`Deadlines`] knows the earliest moment at which one of them may be over.
//! Source: Envoy's `ConnectionManagerImpl::ActiveStream` timers.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::HeaderMap;
use pin_project_lite::pin_project;
use slab::Slab;

use super::filter::LocalReply;
use super::stats::ManagerStats;
use crate::body::Progress;
use crate::error::{ProxyError, ResponseFlags};
use crate::route::RouteAction;

/// A response that can't be written is not asked for more of it, and so never hears that its time is over: it has
/// this long to hear it.
const UNHEARD: Duration = Duration::from_secs(1);

/// Which limit passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Nothing moved in either direction. Source: `stream_idle_timeout`.
    Idle,
    /// The caller has not sent all of its request. Source: `request_timeout`.
    Request,
    /// The exchange lasts too long. Source: `max_stream_duration`.
    Duration,
}

impl Passed {
    pub fn count(self, stats: &ManagerStats) {
        match self {
            Passed::Idle => stats.rq_idle_timeout.inc(),
            Passed::Request => stats.rq_timeout.inc(),
            Passed::Duration => stats.rq_max_duration_reached.inc(),
        }
    }

    /// The answer, as long as none has begun. A caller that has sent everything isn't to blame: 504 instead of 408.
    pub fn reply(self, request_complete: bool) -> LocalReply {
        let status = if request_complete { 504 } else { 408 };
        match self {
            Passed::Idle => LocalReply::new(status, "stream timeout", "stream_idle_timeout")
                .flags(ResponseFlags::STREAM_IDLE_TIMEOUT),
            Passed::Request => LocalReply::new(408, "request timeout", "request_overall_timeout"),
            Passed::Duration => LocalReply::new(status, "downstream duration timeout", "max_duration_timeout"),
        }
    }

    /// What ends a response that has begun.
    pub fn error(self) -> ProxyError {
        match self {
            Passed::Idle => ProxyError::StreamIdle,
            Passed::Request | Passed::Duration => ProxyError::StreamDuration,
        }
    }
}

/// The limits of one request.
pub struct StreamLimits {
    begun: Instant,
    moved: Cell<Instant>,
    idle: Cell<Option<Duration>>,
    request_by: Option<Instant>,
    end_by: Cell<Option<Instant>>,
    progress: Rc<Progress>,
    passed: Cell<Option<(Passed, Instant)>>,
    /// Whoever serves the request has heard of it.
    heard: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl StreamLimits {
    /// Something went through.
    pub fn touch(&self) {
        self.touch_at(Instant::now());
    }

    /// Something went through at this moment.
    pub fn touch_at(&self, now: Instant) {
        self.moved.set(now);
    }

    /// The next moment at which a limit passes, if nothing moves until then.
    fn due(&self) -> Option<(Instant, Passed)> {
        if let Some((passed, at)) = self.passed.get() {
            return (!self.heard.get()).then_some((at + UNHEARD, passed));
        }
        let idle = self.idle.get().map(|idle| {
            (self.progress.moved().map_or(self.moved.get(), |at| at.max(self.moved.get())) + idle, Passed::Idle)
        });
        let request = self.request_by.filter(|_| !self.progress.is_complete()).map(|by| (by, Passed::Request));
        let end = self.end_by.get().map(|by| (by, Passed::Duration));
        [request, end, idle].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// What passed, if something did; else the task is woken when something does.
    pub fn poll_passed(&self, cx: &Context<'_>) -> Option<Passed> {
        if let Some(passed) = self.passed() {
            self.heard.set(true);
            return Some(passed);
        }
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|w| !w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        None
    }

    /// The limit that has passed.
    pub fn passed(&self) -> Option<Passed> {
        self.passed.get().map(|(passed, _)| passed)
    }

    fn pass(&self, what: Passed, now: Instant) {
        self.passed.set(Some((what, now)));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// The limits of all requests of a connection.
#[derive(Default)]
pub struct Deadlines {
    all: Rc<RefCell<Slab<Rc<StreamLimits>>>>,
    /// No limit passes before this.
    earliest: Cell<Option<Instant>>,
}

/// A request's place among its connection's.
pub struct Watched {
    all: Rc<RefCell<Slab<Rc<StreamLimits>>>>,
    key: usize,
    pub limits: Rc<StreamLimits>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.all.borrow_mut().try_remove(self.key);
    }
}

/// The listener's own limits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    pub idle: Option<Duration>,
    pub request: Option<Duration>,
    pub duration: Option<Duration>,
}

impl Deadlines {
    /// Watches a request that begins now; true if the connection's timer must be set anew.
    pub fn watch(&self, rules: Rules, begun: Instant, progress: Rc<Progress>) -> (Watched, bool) {
        let limits = Rc::new(StreamLimits {
            begun,
            moved: Cell::new(begun),
            idle: Cell::new(rules.idle),
            request_by: rules.request.map(|limit| begun + limit),
            end_by: Cell::new(rules.duration.map(|limit| begun + limit)),
            progress,
            passed: Cell::new(None),
            heard: Cell::new(false),
            waker: RefCell::new(None),
        });
        let key = self.all.borrow_mut().insert(limits.clone());
        let earlier = self.consider(&limits);
        (Watched { all: self.all.clone(), key, limits }, earlier)
    }

    /// Applies what a route says; true if the connection's timer must be set anew.
    pub fn follow(&self, limits: &StreamLimits, action: &RouteAction, headers: &HeaderMap) -> bool {
        if let Some(idle) = action.idle_timeout {
            limits.idle.set(idle);
        }
        if let Some(duration) = &action.duration
            && let Some(limit) = duration.limit(headers)
        {
            limits.end_by.set(limit.map(|limit| limits.begun + limit));
        }
        self.consider(limits)
    }

    fn consider(&self, limits: &StreamLimits) -> bool {
        let Some((due, _)) = limits.due() else { return false };
        let earlier = self.earliest.get().is_none_or(|earliest| due < earliest);
        if earlier {
            self.earliest.set(Some(due));
        }
        earlier
    }

    pub fn earliest(&self) -> Option<Instant> {
        self.earliest.get()
    }

    /// Tells all requests whose limit has passed, and finds the next moment. False if one of them was told and can't
    /// hear it, because its caller takes nothing: the connection must end.
    #[must_use]
    pub fn expire(&self, now: Instant) -> bool {
        let mut earliest = None;
        let mut goes_on = true;
        for (_, limits) in self.all.borrow().iter() {
            match limits.due() {
                Some((due, _)) if due <= now && limits.passed().is_some() => goes_on = false,
                Some((due, what)) if due <= now => limits.pass(what, now),
                _ => {}
            }
            if let Some((due, _)) = limits.due() {
                earliest = Some(earliest.map_or(due, |e: Instant| e.min(due)));
            }
        }
        self.earliest.set(earliest);
        goes_on
    }
}

pin_project! {
    /// A future that ends early when a limit passes.
    pub struct Within<'a, F> {
        #[pin]
        inner: F,
        limits: &'a StreamLimits,
    }
}

impl StreamLimits {
    pub fn hold<F: Future>(&self, inner: F) -> Within<'_, F> {
        Within { inner, limits: self }
    }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Result<F::Output, Passed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.inner.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match this.limits.poll_passed(cx) {
            Some(passed) => Poll::Ready(Err(passed)),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_limit_passes_first() {
        let begun = Instant::now();
        let deadlines = Deadlines::default();
        let second = Duration::from_secs(1);
        let rules = Rules { idle: Some(second), request: Some(second * 2), duration: None };
        let (watched, first) = deadlines.watch(rules, begun, Rc::new(Progress::default()));
        assert!(first);
        let (other, again) = deadlines.watch(rules, begun + second, Progress::completed());
        assert!(!again);
        assert!(deadlines.expire(begun + second / 2));
        assert_eq!(watched.limits.passed(), None);
        watched.limits.moved.set(begun + second * 3 / 2);
        assert!(deadlines.expire(begun + second * 2));
        assert_eq!((watched.limits.passed(), other.limits.passed()), (Some(Passed::Request), Some(Passed::Idle)));
        assert_eq!(deadlines.earliest(), Some(begun + second * 2 + UNHEARD));
        watched.limits.heard.set(true);
        assert!(!deadlines.expire(begun + second * 4));
    }
}
