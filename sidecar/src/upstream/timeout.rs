//! The time limits of a whole request, of one try, and of the silence within a try.
//!
//! Both begin when the caller's request is complete, as Envoy's do: a slow upload is the stream idle
//! timeout's business. The whole request's limit also covers the response's body.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Response;
use pin_project_lite::pin_project;
use std::rc::Rc;
use tokio::time::Sleep;
use tower::{Layer, Service};

use super::call::{Call, Facts};
use crate::body::{BodyError, Observe, ResponseBody};
use crate::error::ProxyError;

/// Which limit a layer enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    WholeRequest,
    PerTry,
    /// How long a try may be silent before its head.
    PerTryIdle,
}

/// Puts a time limit on what is inside.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer {
    limit: Limit,
}

impl TimeoutLayer {
    pub fn new(limit: Limit) -> Self {
        TimeoutLayer { limit }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout { inner, limit: self.limit }
    }
}

#[derive(Clone)]
pub struct Timeout<S> {
    inner: S,
    limit: Limit,
}

impl<S> Service<Call> for Timeout<S>
where
    S: Service<Call, Response = Response<ResponseBody>, Error = ProxyError>,
{
    type Response = Response<ResponseBody>;
    type Error = ProxyError;
    type Future = TimeoutFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let limit = match self.limit {
            Limit::WholeRequest => call.facts.timeout,
            Limit::PerTry => call.facts.per_try_timeout.filter(|_| !call.facts.hedge),
            Limit::PerTryIdle => call.facts.per_try_idle_timeout,
        };
        let facts = call.facts.clone();
        let timer = limit.map(|limit| Timer { facts, limit, sleep: None });
        TimeoutFuture { inner: self.inner.call(call), timer, which: self.limit }
    }
}

/// Starts to run when the request is complete.
struct Timer {
    facts: Rc<Facts>,
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> bool {
        if self.sleep.is_none() && !self.facts.progress.poll_complete(cx) {
            return false;
        }
        let limit = self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        sleep.as_mut().poll(cx).is_ready()
    }
}

pin_project! {
    pub struct TimeoutFuture<F> {
        #[pin]
        inner: F,
        timer: Option<Timer>,
        which: Limit,
    }
}

impl<F> Future for TimeoutFuture<F>
where
    F: Future<Output = Result<Response<ResponseBody>, ProxyError>>,
{
    type Output = Result<Response<ResponseBody>, ProxyError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.inner.poll(cx) {
            let timer = this.timer.take().filter(|_| *this.which == Limit::WholeRequest);
            return Poll::Ready(result.map(|mut response| {
                if let Some(timer) = timer.filter(|_| !http_body::Body::is_end_stream(response.body())) {
                    response.body_mut().observe(BodyTimer(timer));
                }
                response
            }));
        }
        let elapsed = this.timer.as_mut().is_some_and(|timer| timer.poll_elapsed(cx));
        if !elapsed {
            return Poll::Pending;
        }
        let stats = this.timer.as_ref().map(|timer| timer.facts.cluster.stats());
        Poll::Ready(Err(match this.which {
            Limit::WholeRequest => ProxyError::RequestTimeout,
            Limit::PerTry => {
                stats.iter().for_each(|stats| stats.rq_per_try_timeout.inc());
                ProxyError::PerTryTimeout
            }
            Limit::PerTryIdle => {
                stats.iter().for_each(|stats| stats.rq_per_try_idle_timeout.inc());
                ProxyError::PerTryIdleTimeout
            }
        }))
    }
}

/// Ends a response's body when the limit passes.
struct BodyTimer(Timer);

impl Observe for BodyTimer {
    fn frame(&mut self, _: &mut http_body::Frame<bytes::Bytes>) -> Result<(), BodyError> {
        Ok(())
    }

    fn idle(&mut self, cx: &mut Context<'_>) -> Option<BodyError> {
        if !self.0.poll_elapsed(cx) {
            return None;
        }
        self.0.facts.cluster.stats().rq_timeout.inc();
        Some(BodyError::Proxy(ProxyError::RequestTimeout))
    }
}
