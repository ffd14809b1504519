//! Refuses requests above a rate: one token bucket for all workers of this process, or one for each connection.
//! Source: Envoy's `envoy.filters.http.local_ratelimit`.

pub mod config;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::Response;
use http::header::{HeaderName, HeaderValue};

use super::{Action, Exchange, FilterRequest, HttpFilter, LocalReply};
use crate::body::ResponseBody;
use crate::error::ResponseFlags;
use crate::matcher::Fraction;
use crate::observe::stats::Counter;
use crate::route::HeaderOps;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

pub struct RateLimitFilter {
    name: String,
    settings: Arc<Settings>,
}

/// A limit; a route may have its own.
pub struct Settings {
    /// `None`: no limit.
    bucket: Option<TokenBucket>,
    /// Each connection has a bucket of its own, kept by this number.
    per_connection: Option<u64>,
    status: u16,
    enabled: Fraction,
    enforced: Fraction,
    /// Added to responses that are refused, and to requests that would have been.
    headers: HeaderOps,
    /// Tell callers of the limit. Source: `enable_x_ratelimit_headers`.
    tells: bool,
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

    /// As it was before any token was taken.
    fn fresh(&self) -> Self {
        TokenBucket { made: Instant::now(), full_at: AtomicU64::new(0), pace: self.pace, size: self.size }
    }

    /// Takes a token if there is one.
    pub fn take(&self) -> bool {
        self.take_at(self.now())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Tokens that are left, and the seconds until there is one.
    fn left(&self) -> (u64, u64) {
        let used = self.full_at.load(Relaxed).saturating_sub(self.now());
        let left = self.pace.saturating_mul(self.size).saturating_sub(used) / self.pace;
        let missing = self.pace - self.pace.saturating_mul(self.size).saturating_sub(used).min(self.pace);
        (left, if left > 0 { 0 } else { missing.div_ceil(1_000_000_000) })
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
        let kept = &exchange.stream.connection.kept;
        let own = settings.per_connection.map(|number| kept.get_or(number, || bucket.fresh()));
        let bucket = own.as_deref().unwrap_or(bucket);
        let taken = bucket.take();
        if settings.tells {
            let (left, reset) = bucket.left();
            exchange.put(Told { limit: bucket.size, left, reset });
        }
        if taken {
            settings.stats.ok.inc();
            return Action::Continue;
        }
        settings.stats.limited.inc();
        if !settings.enforced.contains(fastrand::u64(..)) {
            settings.headers.apply_request(&mut request.head, &exchange.stream);
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

    fn on_response<'a>(&'a self, exchange: &'a Exchange, response: &'a mut Response<ResponseBody>) -> Action<'a> {
        if let Some(told) = exchange.take::<Told>() {
            let headers = response.headers_mut();
            headers.insert(LIMIT, HeaderValue::from(told.limit));
            headers.insert(REMAINING, HeaderValue::from(told.left));
            headers.insert(RESET, HeaderValue::from(told.reset));
        }
        Action::Continue
    }
}

/// What the caller is told of the limit. Source: draft-polli-ratelimit-headers-03.
struct Told {
    limit: u64,
    left: u64,
    reset: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_their_own() {
        let shared = TokenBucket::new(1, 1, Duration::from_secs(600));
        let connections = [crate::stream::Kept::default(), crate::stream::Kept::default()];
        let take = |connection: usize, number: u64| connections[connection].get_or(number, || shared.fresh()).take();
        let taken = [take(0, 1), take(0, 1), take(1, 1), take(0, 2), take(1, 1)];
        assert_eq!(taken, [true, false, true, true, false]);
        assert!(shared.take());
    }

    #[test]
    fn tokens_come_back_at_their_pace() {
        let bucket = TokenBucket::new(2, 1, Duration::from_nanos(100));
        let taken: Vec<bool> = [0, 0, 0, 99, 100, 100, 1000, 1000, 1000].map(|now| bucket.take_at(now)).into();
        assert_eq!(taken, [true, true, false, false, true, false, true, true, false]);
    }
}
