//! Admits a try only while the cluster is below `max_requests`.

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures_util::future::Either;
use tower::{Layer, Service};

use super::balance::Dispatch;
use crate::cluster::circuit_breaker::Resource;
use crate::error::{ProxyError, ResetReason};

#[derive(Clone, Copy, Debug, Default)]
pub struct CircuitBreakerLayer;

impl<S> Layer<S> for CircuitBreakerLayer {
    type Service = CircuitBreaker<S>;

    fn layer(&self, inner: S) -> CircuitBreaker<S> {
        CircuitBreaker { inner }
    }
}

#[derive(Clone)]
pub struct CircuitBreaker<S> {
    inner: S,
}

impl<S> Service<Dispatch> for CircuitBreaker<S>
where
    S: Service<Dispatch, Error = ProxyError>,
{
    type Response = S::Response;
    type Error = ProxyError;
    type Future = Either<Ready<Result<S::Response, ProxyError>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, dispatch: Dispatch) -> Self::Future {
        let facts = &dispatch.call.facts;
        // The last try's permit is given back first.
        *facts.permit.borrow_mut() = None;
        let Some(permit) = facts.cluster.permit(facts.high_priority, Resource::Requests) else {
            facts.cluster.stats().pool.rq_pending_overflow.inc();
            return Either::Left(ready(Err(ProxyError::reset(ResetReason::Overflow))));
        };
        *facts.permit.borrow_mut() = Some(permit);
        Either::Right(self.inner.call(dispatch))
    }
}
