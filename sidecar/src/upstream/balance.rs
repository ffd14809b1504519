//! Chooses the host for one try.

use std::future::{Ready, ready};
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use tower::{Layer, Service};

use super::LocalHost;
use super::call::Call;
use crate::error::ProxyError;

/// A try with its host.
pub struct Dispatch {
    pub call: Call,
    pub host: Rc<LocalHost>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct BalanceLayer;

impl<S> Layer<S> for BalanceLayer {
    type Service = Balance<S>;

    fn layer(&self, inner: S) -> Balance<S> {
        Balance { inner }
    }
}

#[derive(Clone)]
pub struct Balance<S> {
    inner: S,
}

impl<S> Service<Call> for Balance<S>
where
    S: Service<Dispatch, Error = ProxyError>,
{
    type Response = S::Response;
    type Error = ProxyError;
    type Future = Either<Ready<Result<S::Response, ProxyError>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let facts = call.facts.clone();
        let tried = facts.tried.borrow();
        let avoid = |host: &crate::cluster::Host| tried.iter().any(|t| t.address == host.address);
        let redraws = if tried.is_empty() { 0 } else { facts.reselections };
        let Some(host) = facts.cluster.pick(facts.hash, &avoid, redraws) else {
            facts.cluster.stats().cx_none_healthy.inc();
            return Either::Left(ready(Err(ProxyError::NoHealthyUpstream)));
        };
        drop(tried);
        if facts.reselections > 0 {
            facts.tried.borrow_mut().push(host.host.clone());
        }
        let upstream = &facts.stream.upstream;
        *upstream.host.borrow_mut() = Some(host.host.address.clone());
        if !host.host.hostname.is_empty() {
            *upstream.hostname.borrow_mut() = Some(host.host.hostname.clone());
        }
        Either::Right(self.inner.call(Dispatch { call, host }))
    }
}
