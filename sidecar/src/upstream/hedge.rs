//! Tries again beside a try that takes too long, and takes the first good answer. Where a try fails, it is tried
//! again as `retry` would.
//! Source: `HedgePolicy.hedge_on_per_try_timeout`, Envoy's `Filter::onSoftPerTryTimeout`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Response;
use tokio::time::Sleep;
use tower::{Layer, Service};

use super::call::Call;
use super::pool::{LocalFuture, Permit};
use super::retry::{back_off, label, wants_retry};
use crate::body::ResponseBody;
use crate::error::{ProxyError, ResponseFlags};
use crate::route::retry::RetryPolicy;

#[derive(Clone)]
pub struct HedgeLayer {
    policy: Arc<RetryPolicy>,
}

impl HedgeLayer {
    pub fn new(policy: Arc<RetryPolicy>) -> Self {
        HedgeLayer { policy }
    }
}

impl<S> Layer<S> for HedgeLayer {
    type Service = Hedge<S>;

    fn layer(&self, inner: S) -> Hedge<S> {
        Hedge { inner, policy: self.policy.clone() }
    }
}

#[derive(Clone)]
pub struct Hedge<S> {
    inner: S,
    policy: Arc<RetryPolicy>,
}

type Outcome = Result<Response<ResponseBody>, ProxyError>;

impl<S> Service<Call> for Hedge<S>
where
    S: Service<Call, Response = Response<ResponseBody>, Error = ProxyError> + Clone + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = ProxyError;
    type Future = LocalFuture<Outcome>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        Box::pin(hedged(self.inner.clone(), self.policy.clone(), call))
    }
}

async fn hedged<S>(mut inner: S, policy: Arc<RetryPolicy>, mut call: Call) -> Outcome
where
    S: Service<Call, Response = Response<ResponseBody>, Error = ProxyError>,
{
    let facts = call.facts.clone();
    let mut next = call.again();
    let mut tries = 1;
    label(&mut call, tries);
    let mut under_way = FuturesUnordered::new();
    under_way.push(inner.call(call));
    let mut patience = facts.per_try_timeout.map(|limit| Box::pin(tokio::time::sleep(limit)));
    let mut permits: Vec<Permit> = Vec::new();
    loop {
        // The first outcome; `None`: a try takes too long.
        let happened = poll_fn(|cx| match under_way.poll_next_unpin(cx) {
            Poll::Ready(Some(outcome)) => Poll::Ready(Some(outcome)),
            _ if elapsed(&mut patience, cx) => Poll::Ready(None),
            _ => Poll::Pending,
        });
        let (wait, outcome) = match happened.await {
            Some(outcome) if !wants_retry(&policy, &outcome) => {
                if tries > 1 && outcome.is_ok() {
                    facts.cluster.stats().rq_retry_success.inc();
                }
                return outcome;
            }
            // Another try may still do better.
            Some(_) if !under_way.is_empty() => continue,
            Some(outcome) => (back_off(&policy, tries, &outcome), Some(outcome)),
            None => (back_off(&policy, tries, &Err(ProxyError::PerTryTimeout)), None),
        };
        let again = next.as_ref().and_then(Call::again);
        if tries > policy.num_retries {
            facts.cluster.stats().rq_retry_limit_exceeded.inc();
            facts.stream.add_flags(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        }
        let permit = if tries > policy.num_retries { None } else { facts.cluster.retry_permit(facts.high_priority) };
        match (again, permit, outcome) {
            (Some(mut call), Some(permit), outcome) => {
                permits.push(permit);
                facts.cluster.count_retry(&outcome.unwrap_or(Err(ProxyError::PerTryTimeout)));
                next = call.again();
                tries += 1;
                tokio::time::sleep(wait).await;
                label(&mut call, tries);
                under_way.push(inner.call(call));
                patience = facts.per_try_timeout.map(|limit| Box::pin(tokio::time::sleep(limit)));
            }
            (_, _, Some(outcome)) => return outcome,
            (_, _, None) => {}
        }
    }
}

/// True once; an elapsed limit is not asked again.
fn elapsed(patience: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> bool {
    let passed = patience.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
    if passed {
        *patience = None;
    }
    passed
}
