//! Refuses requests above a rate: one token bucket for all workers of this process.
//! Source: Envoy's `envoy.filters.http.local_ratelimit`.

pub mod config;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{Action, Exchange, FilterRequest, HttpFilter, LocalReply};
use crate::error::ResponseFlags;
use crate::matcher::Fraction;
use crate::observe::stats::Counter;
use crate::route::HeaderOps;

pub struct RateLimitFilter {
    name: String,
    settings: Arc<Settings>,
}

/// A limit; a route may have its own.
pub struct Settings {
    /// `None`: no limit.
    bucket: Option<TokenBucket>,
    status: u16,
    enabled: Fraction,
    enforced: Fraction,
    /// Added to responses that are refused.
    headers: HeaderOps,
    resource_exhausted: bool,
    stats: Stats,
}

struct Stats {
    enabled: Counter,
    enforced: Counter,
    limited: Counter,
    ok: Counter,
}

/// Tokens that come back at a steady pace. The state is one number: the moment (in nanoseconds since the
/// bucket was made) at which it would be full, so that taking a token is one compare-and-swap.
pub struct TokenBucket {
    made: Instant,
    full_at: AtomicU64,
    /// Nanoseconds for one token.
    pace: u64,
    size: u64,
}

impl TokenBucket {
    /// `size` tokens, of which `refill` come back each `interval`.
    pub fn new(size: u32, refill: u32, interval: Duration) -> Self {
        let pace = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX) / u64::from(refill.max(1));
        TokenBucket { made: Instant::now(), full_at: AtomicU64::new(0), pace: pace.max(1), size: u64::from(size) }
    }

    /// Takes a token if there is one.
    pub fn take(&self) -> bool {
        self.take_at(u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn take_at(&self, now: u64) -> bool {
        let capacity = self.pace.saturating_mul(self.size);
        let taken = self.full_at.fetch_update(Relaxed, Relaxed, |full_at| {
            let next = full_at.max(now).saturating_add(self.pace);
            (next - now <= capacity).then_some(next)
        });
        taken.is_ok()
    }
}

impl HttpFilter for RateLimitFilter {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        let settings = exchange.route_config::<Settings>(&self.name).unwrap_or_else(|| self.settings.clone());
        let Some(bucket) = &settings.bucket else { return Action::Continue };
        if !settings.enabled.contains(fastrand::u64(..)) {
            return Action::Continue;
        }
        settings.stats.enabled.inc();
        if bucket.take() {
            settings.stats.ok.inc();
            return Action::Continue;
        }
        settings.stats.limited.inc();
        if !settings.enforced.contains(fastrand::u64(..)) {
            return Action::Continue;
        }
        settings.stats.enforced.inc();
        let mut reply = LocalReply::new(settings.status, "local_rate_limited", "local_rate_limited");
        if settings.resource_exhausted {
            reply.grpc_status = Some(8);
        }
        settings.headers.apply_response(&mut reply.headers, &request.head, &exchange.stream);
        Action::Reply(Box::new(reply.flags(ResponseFlags::RATE_LIMITED)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_at_their_pace() {
        let bucket = TokenBucket::new(2, 1, Duration::from_nanos(100));
        let taken: Vec<bool> = [0, 0, 0, 99, 100, 100, 1000, 1000, 1000].map(|now| bucket.take_at(now)).into();
        assert_eq!(taken, [true, true, false, false, true, false, true, true, false]);
    }
}
