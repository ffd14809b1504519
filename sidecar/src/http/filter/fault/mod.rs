//! Delays and aborts a share of the requests. Source: Envoy's `envoy.filters.http.fault`.

pub mod config;

use std::sync::Arc;
use std::time::Duration;

use super::{Action, Exchange, FilterRequest, HttpFilter, LocalReply};
use crate::error::ResponseFlags;
use crate::matcher::{Fraction, HeaderMatcher};
use crate::observe::stats::{Counter, Gauge};
use crate::request::RequestHead;

pub struct FaultFilter {
    name: String,
    settings: Arc<Settings>,
    stats: Stats,
}

struct Stats {
    aborts: Counter,
    delays: Counter,
    active: Gauge,
    overflow: Counter,
}

/// A request that a fault was injected into counts until it has ended.
struct Active(Gauge);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What to do to whom; a route may have its own.
#[derive(Debug, Default)]
pub struct Settings {
    delay: Option<(Delay, Fraction)>,
    abort: Option<(Abort, Fraction)>,
    /// All must match.
    headers: Vec<HeaderMatcher>,
    /// Only requests to this cluster; empty: all.
    cluster: String,
    /// Only requests that say they come from one of these nodes; empty: all.
    nodes: Vec<String>,
    /// Beyond so many requests at once, nothing is injected.
    max_active: Option<u32>,
}

/// Source: `FaultDelay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delay {
    Fixed(Duration),
    /// `x-envoy-fault-delay-request` says how long, `…-percentage` how often.
    Header,
}

/// Source: `FaultAbort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Abort {
    Http(u16),
    Grpc(u16),
    /// `x-envoy-fault-abort-request` or `…-grpc-request` says which status.
    Header,
}

impl Settings {
    fn concern(&self, head: &RequestHead, exchange: &Exchange) -> bool {
        let cluster = || exchange.route().and_then(|route| route.route.action.cluster_name().map(str::to_owned));
        (self.cluster.is_empty() || cluster().as_deref() == Some(self.cluster.as_str()))
            && self.names_caller(head)
            && self.headers.iter().all(|m| m.matches(head))
    }

    /// Source: `HTTPFault.downstream_nodes`.
    fn names_caller(&self, head: &RequestHead) -> bool {
        let node = || head.headers.get("x-envoy-downstream-service-node").map(http::HeaderValue::as_bytes);
        self.nodes.is_empty() || node().is_some_and(|node| self.nodes.iter().any(|known| known.as_bytes() == node))
    }

    fn delay(&self, head: &RequestHead) -> Option<Duration> {
        let (delay, share) = self.delay.as_ref()?;
        let wait = match delay {
            Delay::Fixed(wait) => *wait,
            Delay::Header => Duration::from_millis(number(head, "x-envoy-fault-delay-request")?),
        };
        drawn(*share, head, "x-envoy-fault-delay-request-percentage").then_some(wait).filter(|w| !w.is_zero())
    }

    fn abort(&self, head: &RequestHead) -> Option<Abort> {
        let (abort, share) = self.abort.as_ref()?;
        let abort = match abort {
            Abort::Header => match number(head, "x-envoy-fault-abort-request") {
                Some(status @ 200..=599) => Abort::Http(status as u16),
                Some(_) => return None,
                None => Abort::Grpc(u16::try_from(number(head, "x-envoy-fault-abort-grpc-request")?).ok()?),
            },
            fixed => *fixed,
        };
        drawn(*share, head, "x-envoy-fault-abort-request-percentage").then_some(abort)
    }
}

fn number(head: &RequestHead, name: &str) -> Option<u64> {
    head.headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// A header may make the share smaller, never larger.
fn drawn(share: Fraction, head: &RequestHead, header: &str) -> bool {
    let share = match number(head, header).and_then(|n| u32::try_from(n).ok()) {
        Some(asked) => Fraction { numerator: asked.min(share.numerator), ..share },
        None => share,
    };
    share.contains(fastrand::u64(..))
}

impl HttpFilter for FaultFilter {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        let settings = exchange.route_config::<Settings>(&self.name).unwrap_or_else(|| self.settings.clone());
        if !settings.concern(&request.head, exchange) {
            return Action::Continue;
        }
        let abort = settings.abort(&request.head);
        let delay = settings.delay(&request.head);
        if (abort.is_none() && delay.is_none()) || !self.may_inject(&settings, exchange) {
            return Action::Continue;
        }
        let Some(wait) = delay else {
            return abort.map_or(Action::Continue, |abort| self.abort(abort));
        };
        self.stats.delays.inc();
        exchange.stream.add_flags(ResponseFlags::DELAY_INJECTED);
        let aborted = abort.map(|abort| self.abort(abort));
        Action::Wait(Box::pin(async move {
            tokio::time::sleep(wait).await;
            aborted.unwrap_or(Action::Continue)
        }))
    }
}

impl FaultFilter {
    /// Source: `HTTPFault.max_active_faults`; workers that count at the same time may go over it by one each, as Envoy's do.
    fn may_inject(&self, settings: &Settings, exchange: &Exchange) -> bool {
        if settings.max_active.is_some_and(|max| self.stats.active.value() >= u64::from(max)) {
            self.stats.overflow.inc();
            return false;
        }
        self.stats.active.inc();
        exchange.put(Active(self.stats.active.clone()));
        true
    }

    fn abort(&self, abort: Abort) -> Action<'static> {
        self.stats.aborts.inc();
        let (status, grpc) = match abort {
            Abort::Http(status) => (status, None),
            Abort::Grpc(code) => (200, Some(code)),
            Abort::Header => return Action::Continue,
        };
        let mut reply = LocalReply::new(status, "fault filter abort", "fault_filter_abort");
        reply.grpc_status = grpc;
        Action::Reply(Box::new(reply.flags(ResponseFlags::FAULT_INJECTED)))
    }
}
