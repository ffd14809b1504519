//! Sends one try to one host: takes a connection from its pool, and counts what comes of it.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Response;
use tower::Service;

use super::LocalHost;
use super::balance::Dispatch;
use super::call::{Call, Facts};
use super::pool::{Active, LocalFuture};
use crate::body::{BodyError, Observe, ResponseBody};
use crate::cluster::host_stats::{Count, Outcome};
use crate::error::{ProxyError, ResetReason};
use crate::http::codec;

#[derive(Clone, Copy, Debug, Default)]
pub struct Endpoint;

impl Service<Dispatch> for Endpoint {
    type Response = Response<ResponseBody>;
    type Error = ProxyError;
    // The one boxed future of a try: connecting and sending are plain async code.
    type Future = LocalFuture<Result<Response<ResponseBody>, ProxyError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, dispatch: Dispatch) -> Self::Future {
        Box::pin(send(dispatch))
    }
}

async fn send(dispatch: Dispatch) -> Result<Response<ResponseBody>, ProxyError> {
    let Dispatch { call: Call { head, body, facts }, host } = dispatch;
    let cluster = facts.cluster.clone();
    let stats = cluster.stats();
    stats.rq_total.inc();
    cluster.count(&host, Count::RqTotal);
    let mut under_way = UnderWay::new(facts.clone(), host.clone());
    let pool = cluster.pool(&host, head.protocol, facts.alpn.as_deref());
    let sent_to = under_way.sent.clone();
    let sent = pool
        .send(
            |http2| codec::upstream_request(head, body, http2),
            |link| {
                let upstream = &facts.stream.upstream;
                upstream.local_address.set(link.local);
                upstream.connection_id.set(Some(link.id));
                upstream.protocol.set(Some(link.protocol));
                upstream.first_byte_sent.set(Some(Instant::now()));
                upstream.tls.borrow_mut().clone_from(&link.tls);
                sent_to.set(true);
            },
        )
        .await;
    match sent {
        Ok(mut response) => {
            facts.stream.upstream.first_byte_received.set(Some(Instant::now()));
            cluster.report(&host, outcome_of(&response));
            under_way.answered = true;
            response.body_mut().observe(under_way);
            Ok(response)
        }
        Err(error) => {
            if let ProxyError::Reset { reason, transport_failure } = &error {
                if matches!(reason, ResetReason::RemoteReset | ResetReason::RemoteRefusedStream) {
                    stats.rq_rx_reset.inc();
                }
                facts.stream.upstream.transport_failure.borrow_mut().clone_from(transport_failure);
                // A full circuit breaker is none of the host's doing.
                if *reason != ResetReason::Overflow {
                    cluster.report(&host, Outcome::Local);
                }
            }
            under_way.failed = true;
            Err(error)
        }
    }
}

/// gRPC tells of failures by a status of its own.
fn outcome_of(response: &Response<ResponseBody>) -> Outcome {
    let grpc = crate::request::is_grpc_content_type(response.headers())
        .then(|| response.headers().get("grpc-status")?.to_str().ok()?.parse::<u16>().ok())
        .flatten();
    Outcome::Status(grpc.map_or(response.status().as_u16(), crate::http::filter::grpc_to_http))
}

/// A try from its beginning to the end of its response.
struct UnderWay {
    facts: Rc<Facts>,
    host: Rc<LocalHost>,
    begun: Instant,
    /// Was there a connection for it?
    sent: Rc<Cell<bool>>,
    answered: bool,
    failed: bool,
    _active: Active,
}

impl UnderWay {
    fn new(facts: Rc<Facts>, host: Rc<LocalHost>) -> Self {
        host.active.set(host.active.get() + 1);
        facts.cluster.count(&host, Count::RqActive);
        let active = Active::new(&facts.cluster.stats().rq_active);
        UnderWay {
            facts,
            host,
            begun: Instant::now(),
            sent: Rc::default(),
            answered: false,
            failed: false,
            _active: active,
        }
    }
}

impl UnderWay {
    /// After so long it was a time limit that ended the try.
    fn limit(&self) -> Duration {
        let facts = &self.facts;
        let limits = [facts.per_try_timeout, facts.per_try_idle_timeout, facts.timeout];
        limits.into_iter().flatten().min().unwrap_or(Duration::MAX)
    }
}

impl Observe for UnderWay {
    fn frame(&mut self, _: &mut http_body::Frame<bytes::Bytes>) -> Result<(), BodyError> {
        Ok(())
    }

    fn end(&mut self, outcome: Result<(), &BodyError>) {
        if outcome.is_ok() {
            let stats = self.facts.cluster.stats();
            stats.rq_completed.inc();
            stats.rq_time.record(self.begun.elapsed().as_millis() as u64);
        }
        *self.facts.permit.borrow_mut() = None;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.host.active.set(self.host.active.get().saturating_sub(1));
        self.facts.cluster.uncount(&self.host, Count::RqActive);
        if !self.answered && !self.failed {
            // Dropped before there was an answer: a timeout, or the caller went.
            let stats = self.facts.cluster.stats();
            if self.sent.get() {
                stats.rq_tx_reset.inc()
            } else {
                stats.rq_cancelled.inc()
            }
            if self.facts.progress.is_complete() && self.begun.elapsed() >= self.limit() {
                self.facts.cluster.count(&self.host, Count::RqTimeout);
                self.facts.cluster.report(&self.host, Outcome::Local);
            }
        }
        if !self.answered {
            *self.facts.permit.borrow_mut() = None;
        }
    }
}
