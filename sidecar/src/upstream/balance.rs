//! Chooses the host for one try.

use std::future::{Ready, ready};
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::header::{HeaderName, HeaderValue};
use tower::{Layer, Service};

use super::LocalHost;
use super::call::Call;
use super::local_cluster::Wanted;
use super::pool::LocalFuture;
use crate::cluster::Discovery;
use crate::error::ProxyError;

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

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
    S: Service<Dispatch, Error = ProxyError> + Clone + 'static,
{
    type Response = S::Response;
    type Error = ProxyError;
    type Future =
        Either<Ready<Result<S::Response, ProxyError>>, Either<S::Future, LocalFuture<Result<S::Response, ProxyError>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let facts = call.facts.clone();
        if facts.cluster.cluster.makes_hosts() {
            let mut inner = self.inner.clone();
            return Either::Right(Either::Right(Box::pin(async move {
                let host = made_host(&call).await?;
                note(&mut call, &host);
                inner.call(Dispatch { call, host }).await
            })));
        }
        let tried = facts.tried.borrow();
        let avoid = |host: &crate::cluster::Host| tried.iter().any(|t| t.address == host.address);
        let redraws = if tried.is_empty() { 0 } else { facts.reselections };
        let Some(host) =
            facts.cluster.pick(facts.hash, &avoid, redraws, &facts.tried_priorities.borrow(), facts.subset.as_deref())
        else {
            facts.cluster.stats().cx_none_healthy.inc();
            return Either::Left(ready(Err(ProxyError::NoHealthyUpstream)));
        };
        drop(tried);
        if facts.avoid_priorities {
            facts.tried_priorities.borrow_mut().push(host.host.priority);
        }
        if facts.reselections > 0 {
            facts.tried.borrow_mut().push(host.host.clone());
        }
        note(&mut call, &host);
        Either::Right(Either::Left(self.inner.call(Dispatch { call, host })))
    }
}

/// The host of a cluster that makes its hosts as requests come.
async fn made_host(call: &Call) -> Result<Rc<LocalHost>, ProxyError> {
    let facts = &call.facts;
    let header = match &facts.cluster.cluster.discovery {
        Discovery::OriginalDst(options) => options.header.as_ref().and_then(|name| call.head.headers.get(name)),
        _ => None,
    };
    let connection = &facts.stream.connection;
    let wanted = Wanted {
        authority: call.head.authority_str(),
        header: header.and_then(|value| value.to_str().ok()),
        destination: connection.local.socket().filter(|_| connection.local_restored),
    };
    facts.cluster.make_host(&wanted).await
}

/// Writes down where the try goes, and asks for the host by its name if the route wants that.
fn note(call: &mut Call, host: &LocalHost) {
    let name = (!host.host.hostname.is_empty()).then(|| HeaderValue::from_str(&host.host.hostname).ok()).flatten();
    if let (Some(keep), Some(name)) = (call.facts.chosen_host, name) {
        let old = call.head.authority.replace(name);
        if let (true, Some(old)) = (keep, old) {
            call.head.headers.append(FORWARDED_HOST, old);
        }
    }
    let upstream = &call.facts.stream.upstream;
    *upstream.host.borrow_mut() = Some(host.host.address.clone());
    *upstream.host_metadata.borrow_mut() = Some(host.host.metadata.clone());
    if !host.host.hostname.is_empty() {
        *upstream.hostname.borrow_mut() = Some(host.host.hostname.clone());
    }
}
