//! A route's retry policy, and how a request's own headers change it. Whether an outcome is retried is
//! decided in `upstream::retry`.
//! Source: `envoy.config.route.v3.RetryPolicy`, Envoy's `RetryStateImpl`.

pub mod config;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::matcher::{HeaderMatcher, ValueMatcher};
use crate::request::RequestHead;

/// A set of conditions. Source: `x-envoy-retry-on`, `x-envoy-retry-grpc-on`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

macro_rules! retry_on {
    ($($name:ident = $bit:literal, $word:literal;)*) => {
        impl RetryOn {
            $(pub const $name: RetryOn = RetryOn(1 << $bit);)*

            fn word(word: &str) -> RetryOn {
                match word {
                    $($word => Self::$name,)*
                    _ => RetryOn(0),
                }
            }
        }
    };
}

retry_on! {
    FIVE_XX = 0, "5xx";
    GATEWAY_ERROR = 1, "gateway-error";
    CONNECT_FAILURE = 2, "connect-failure";
    RETRIABLE_4XX = 3, "retriable-4xx";
    REFUSED_STREAM = 4, "refused-stream";
    RETRIABLE_STATUS_CODES = 5, "retriable-status-codes";
    RESET = 6, "reset";
    RETRIABLE_HEADERS = 7, "retriable-headers";
    ENVOY_RATELIMITED = 8, "envoy-ratelimited";
    RESET_BEFORE_REQUEST = 9, "reset-before-request";
    GRPC_CANCELLED = 10, "cancelled";
    GRPC_DEADLINE_EXCEEDED = 11, "deadline-exceeded";
    GRPC_RESOURCE_EXHAUSTED = 12, "resource-exhausted";
    GRPC_UNAVAILABLE = 13, "unavailable";
    GRPC_INTERNAL = 14, "internal";
}

impl RetryOn {
    pub fn contains(self, other: RetryOn) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn intersects(self, other: RetryOn) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub fn union(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Reads a comma-separated list; words that are not known are ignored, as Envoy does.
    pub fn parse(list: &str) -> RetryOn {
        list.split(',').map(|word| RetryOn::word(word.trim())).fold(RetryOn::default(), RetryOn::union)
    }
}

/// A compiled policy.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    pub retry_on: RetryOn,
    /// Tries after the first.
    pub num_retries: u32,
    pub per_try_timeout: Option<Duration>,
    /// A try from which nothing comes for so long is given up.
    pub per_try_idle_timeout: Option<Duration>,
    pub retriable_status_codes: Vec<u16>,
    /// Response headers that ask for a retry.
    pub retriable_headers: Vec<HeaderMatcher>,
    /// Requests without one of these are not retried.
    pub retriable_request_headers: Vec<HeaderMatcher>,
    /// 25 ms.
    pub back_off_base: Duration,
    /// Ten times the base.
    pub back_off_max: Duration,
    /// Do not choose a host that was tried (`previous_hosts`).
    pub avoid_previous_hosts: bool,
    /// Go on with the next priority (`previous_priorities`).
    pub avoid_priorities: bool,
    /// How often another host is drawn for that; 1.
    pub host_selection_attempts: u32,
    pub rate_limited: Option<RateLimitedBackOff>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            retry_on: RetryOn::default(),
            num_retries: 1,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            retriable_status_codes: Vec::new(),
            retriable_headers: Vec::new(),
            retriable_request_headers: Vec::new(),
            back_off_base: Duration::from_millis(25),
            back_off_max: Duration::from_millis(250),
            avoid_previous_hosts: false,
            avoid_priorities: false,
            host_selection_attempts: 1,
            rate_limited: None,
        }
    }
}

/// Waits as long as a response header asks. Source: `RateLimitedRetryBackOff`.
#[derive(Clone, Debug)]
pub struct RateLimitedBackOff {
    /// Header name, and whether it holds a Unix time instead of seconds.
    pub reset_headers: Vec<(String, bool)>,
    /// 300 s.
    pub max: Duration,
}

impl RetryPolicy {
    pub fn response_headers_match(&self, headers: &HeaderMap) -> bool {
        self.retriable_headers.iter().any(|m| m.matches_map(headers))
    }

    /// How long a rate-limited response asks to wait, with up to half as much again. `now` is Unix seconds.
    pub fn rate_limited_back_off(&self, headers: &HeaderMap, now: u64) -> Option<Duration> {
        let policy = self.rate_limited.as_ref()?;
        let seconds = policy.reset_headers.iter().find_map(|(name, unix)| {
            let value: u64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
            if *unix { value.checked_sub(now) } else { Some(value) }
        })?;
        let wait = Duration::from_secs(seconds);
        (wait > Duration::ZERO && wait <= policy.max).then(|| wait.mul_f64(1.0 + fastrand::f64() / 2.0))
    }

    /// The policy for one request: the route's, as changed by the request's headers. `None`: no retries.
    /// A request that changes nothing shares the route's.
    pub fn for_request(route: Option<&Arc<RetryPolicy>>, head: &RequestHead) -> Option<Arc<RetryPolicy>> {
        let asks = head.headers.keys().any(|name| name.as_str().starts_with("x-envoy-"));
        let mut policy = match (route, asks) {
            (None, false) => return None,
            (Some(route), false) if route.retriable_request_headers.is_empty() => {
                return (!route.retry_on.is_empty()).then(|| route.clone());
            }
            (route, _) => route.map(|r| (**r).clone()).unwrap_or_default(),
        };
        let text = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok());
        if !policy.retriable_request_headers.is_empty()
            && !policy.retriable_request_headers.iter().any(|m| m.matches(head))
        {
            policy.retry_on = RetryOn::default();
        }
        for name in ["x-envoy-retry-on", "x-envoy-retry-grpc-on"] {
            if let Some(list) = text(name) {
                policy.retry_on = policy.retry_on.union(RetryOn::parse(list));
            }
        }
        if let Some(codes) = text("x-envoy-retriable-status-codes") {
            policy.retriable_status_codes.extend(codes.split(',').filter_map(|c| c.trim().parse::<u16>().ok()));
        }
        if let Some(names) = text("x-envoy-retriable-header-names") {
            policy.retriable_headers.extend(names.split(',').map(present));
        }
        if let Some(n) = text("x-envoy-max-retries").and_then(|n| n.trim().parse().ok()) {
            policy.num_retries = n;
        }
        (!policy.retry_on.is_empty()).then(|| Arc::new(policy))
    }
}

fn present(name: &str) -> HeaderMatcher {
    HeaderMatcher {
        name: name.trim().to_ascii_lowercase(),
        value: ValueMatcher::Present(true),
        invert: false,
        missing_is_empty: false,
    }
}
