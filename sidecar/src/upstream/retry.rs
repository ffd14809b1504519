//! Tries again when a try failed in a way the policy names, after a jittered back-off, within the
//! cluster's retry circuit breaker or budget, and on another host if the policy asks for it.
//! Source: Envoy's `RetryStateImpl`.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::{Layer, Service};

use super::call::Call;
use super::pool::Permit;
use crate::body::ResponseBody;
use crate::error::{ProxyError, ResetReason, ResponseFlags};
use crate::route::retry::{RetryOn, RetryPolicy};

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// Retries by a policy; without one every call is tried once.
#[derive(Clone)]
pub struct RetryLayer {
    policy: Option<Arc<RetryPolicy>>,
}

impl RetryLayer {
    pub fn new(policy: Option<Arc<RetryPolicy>>) -> Self {
        RetryLayer { policy }
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry { inner, policy: self.policy.clone() }
    }
}

#[derive(Clone)]
pub struct Retry<S> {
    inner: S,
    policy: Option<Arc<RetryPolicy>>,
}

impl<S> Service<Call> for Retry<S>
where
    S: Service<Call, Response = Response<ResponseBody>, Error = ProxyError> + Clone,
{
    type Response = Response<ResponseBody>;
    type Error = ProxyError;
    type Future = Retrying<S, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let next = self.policy.as_ref().and_then(|_| call.again());
        label(&mut call, 1);
        let facts = call.facts.clone();
        Retrying {
            step: Step::Trying { future: self.inner.call(call) },
            inner: self.inner.clone(),
            policy: self.policy.clone(),
            next,
            facts,
            tries: 1,
            permit: None,
        }
    }
}

/// Writes the headers that tell upstream which try this is and how long it may take.
pub(super) fn label(call: &mut Call, attempt: u32) {
    call.facts.stream.upstream.attempts.set(attempt);
    if call.facts.count_attempts {
        call.head.headers.insert(ATTEMPT_COUNT, HeaderValue::from(attempt));
    }
    if !call.facts.announce_timeout {
        return;
    }
    let left = call.facts.timeout.map(|limit| limit.saturating_sub(call.facts.started.elapsed()));
    let expected = match (left, call.facts.per_try_timeout) {
        (Some(left), Some(per_try)) => Some(left.min(per_try)),
        (left, per_try) => left.or(per_try),
    };
    if let Some(expected) = expected.filter(|e| !e.is_zero()) {
        // The time that has already passed is below a millisecond on a first try.
        let millis = expected.as_micros().div_ceil(1000) as u64;
        call.head.headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(millis));
    }
}

pin_project! {
    #[project = StepProj]
    enum Step<F> {
        Trying { #[pin] future: F },
        Waiting { sleep: Pin<Box<Sleep>> },
    }
}

pin_project! {
    /// The future of [`Retry`].
    pub struct Retrying<S, F> {
        #[pin]
        step: Step<F>,
        inner: S,
        policy: Option<Arc<RetryPolicy>>,
        // The call for the next try, while one is possible.
        next: Option<Call>,
        facts: Rc<super::call::Facts>,
        tries: u32,
        // The retry circuit breaker's, while a retry is under way.
        permit: Option<Permit>,
    }
}

impl<S> Future for Retrying<S, S::Future>
where
    S: Service<Call, Response = Response<ResponseBody>, Error = ProxyError> + Clone,
{
    type Output = Result<Response<ResponseBody>, ProxyError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.step.as_mut().project() {
                StepProj::Trying { future } => {
                    let result = ready!(future.poll(cx));
                    let stats = this.facts.cluster.stats();
                    let failed = this.policy.as_ref().is_some_and(|p| wants_retry(p, &result));
                    if !failed {
                        if *this.tries > 1 && result.is_ok() {
                            stats.rq_retry_success.inc();
                        }
                        return Poll::Ready(result);
                    }
                    let Some(policy) = this.policy.as_ref() else { return Poll::Ready(result) };
                    if *this.tries > policy.num_retries {
                        if policy.num_retries > 0 {
                            stats.rq_retry_limit_exceeded.inc();
                            this.facts.stream.add_flags(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
                        }
                        return Poll::Ready(result);
                    }
                    // A body that can't be sent again ends the matter.
                    let again = this.next.as_ref().and_then(Call::again);
                    let Some(again) = again else { return Poll::Ready(result) };
                    *this.permit = None;
                    let Some(permit) = this.facts.cluster.retry_permit(this.facts.high_priority) else {
                        stats.rq_retry_overflow.inc();
                        this.facts.stream.add_flags(ResponseFlags::UPSTREAM_OVERFLOW);
                        return Poll::Ready(result);
                    };
                    *this.permit = Some(permit);
                    this.facts.cluster.count_retry(&result);
                    let delay = back_off(policy, *this.tries, &result);
                    drop(result);
                    *this.next = Some(again);
                    let sleep = Box::pin(tokio::time::sleep(delay));
                    this.step.set(Step::Waiting { sleep });
                }
                StepProj::Waiting { sleep } => {
                    ready!(sleep.as_mut().poll(cx));
                    let Some(mut call) = this.next.take() else {
                        return Poll::Ready(Err(ProxyError::reset(ResetReason::LocalReset)));
                    };
                    *this.next = call.again();
                    *this.tries += 1;
                    label(&mut call, *this.tries);
                    let future = this.inner.call(call);
                    this.step.set(Step::Trying { future });
                }
            }
        }
    }
}

/// Does the policy name this outcome?
pub fn wants_retry(policy: &RetryPolicy, result: &Result<Response<ResponseBody>, ProxyError>) -> bool {
    match result {
        Ok(response) => response_is_retriable(policy, response.status().as_u16(), response.headers()),
        Err(error) => error_is_retriable(policy.retry_on, error),
    }
}

fn response_is_retriable(policy: &RetryPolicy, status: u16, headers: &HeaderMap) -> bool {
    let on = policy.retry_on;
    let limited = headers.contains_key("x-envoy-ratelimited");
    if limited && !on.contains(RetryOn::ENVOY_RATELIMITED) {
        return false;
    }
    if on.contains(RetryOn::FIVE_XX) && (500..600).contains(&status)
        || on.contains(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&status)
        || on.contains(RetryOn::RETRIABLE_4XX) && status == 409
        || limited
        || on.contains(RetryOn::RETRIABLE_STATUS_CODES) && policy.retriable_status_codes.contains(&status)
        || on.contains(RetryOn::RETRIABLE_HEADERS) && policy.response_headers_match(headers)
    {
        return true;
    }
    grpc_is_retriable(on, headers)
}

fn grpc_is_retriable(on: RetryOn, headers: &HeaderMap) -> bool {
    let Some(code) = headers.get("grpc-status").and_then(|v| v.to_str().ok()?.parse::<u32>().ok()) else {
        return false;
    };
    let wanted = match code {
        1 => RetryOn::GRPC_CANCELLED,
        4 => RetryOn::GRPC_DEADLINE_EXCEEDED,
        8 => RetryOn::GRPC_RESOURCE_EXHAUSTED,
        13 => RetryOn::GRPC_INTERNAL,
        14 => RetryOn::GRPC_UNAVAILABLE,
        _ => return false,
    };
    on.contains(wanted)
}

fn error_is_retriable(on: RetryOn, error: &ProxyError) -> bool {
    let reset = RetryOn::FIVE_XX.union(RetryOn::RESET);
    match error {
        ProxyError::Reset { reason, .. } => match reason {
            // A full circuit breaker is no reason to try again.
            ResetReason::Overflow => false,
            ResetReason::RemoteConnectionFailure
            | ResetReason::LocalConnectionFailure
            | ResetReason::ConnectionTimeout => on.intersects(
                reset
                    .union(RetryOn::CONNECT_FAILURE)
                    .union(RetryOn::GATEWAY_ERROR)
                    .union(RetryOn::RESET_BEFORE_REQUEST),
            ),
            ResetReason::RemoteRefusedStream => {
                on.intersects(reset.union(RetryOn::REFUSED_STREAM).union(RetryOn::GATEWAY_ERROR))
            }
            ResetReason::StaleConnection => {
                on.intersects(reset.union(RetryOn::GATEWAY_ERROR).union(RetryOn::RESET_BEFORE_REQUEST))
            }
            ResetReason::ConnectionTermination
            | ResetReason::RemoteReset
            | ResetReason::LocalReset
            | ResetReason::ProtocolError => on.intersects(reset.union(RetryOn::GATEWAY_ERROR)),
        },
        ProxyError::PerTryTimeout | ProxyError::PerTryIdleTimeout => on.intersects(reset.union(RetryOn::GATEWAY_ERROR)),
        _ => false,
    }
}

/// Full jitter between zero and an exponentially growing bound, or what a rate-limited response asks for.
pub(super) fn back_off(
    policy: &RetryPolicy,
    tries: u32,
    result: &Result<Response<ResponseBody>, ProxyError>,
) -> Duration {
    if let Ok(response) = result
        && let Some(asked) = policy.rate_limited_back_off(response.headers(), unix_now())
    {
        return asked;
    }
    let factor = 1u32.checked_shl(tries.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
    let bound = policy.back_off_base.saturating_mul(factor).min(policy.back_off_max);
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(if nanos == 0 { 0 } else { fastrand::u64(0..nanos) })
}

fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
