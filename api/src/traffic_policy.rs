//! `TrafficPolicy` (mesh.outrigger.dev/v1alpha1): how calls to one Service behave.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::duration::GoDuration;
use crate::meta::ObjectMeta;
use crate::scalar::{HttpStatus, Percent, Port};
use crate::smi::split::GroupRef;

/// How calls to one Service behave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrafficPolicy {
    /// In the Service's namespace.
    pub metadata: ObjectMeta,
    /// What holds. Durations are written as in Go: `250ms`, `1m30s`.
    pub spec: TrafficPolicySpec,
}

/// The fields of a [`TrafficPolicy`]. All but `targetRef` are optional.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficPolicySpec {
    /// The Service, in the policy's own namespace.
    pub target_ref: TargetRef,
    /// Time limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Which failed requests are tried again. Absent: MeshConfig's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How a host is chosen. Absent: least request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// How much may be under way at once from one caller. Absent: Envoy's defaults.
    #[serde(default)]
    pub circuit_breaker: CircuitBreaker,
    /// When a failing host is left out for a while. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// How connections are kept.
    #[serde(default)]
    pub connection_pool: ConnectionPool,
    /// How many requests each destination takes. Absent: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Faults to inject at the caller's side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Where copies of requests go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// `timeout`, `retry`, `fault` and `mirror` only for requests that a match of these groups accepts. Empty: for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<GroupRef>,
}

/// The Service that a policy is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetRef {
    /// `Service` when absent.
    #[serde(default)]
    pub kind: TargetKind,
    /// In the policy's own namespace.
    pub name: String,
}

/// The kinds that may be a policy's target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// The only kind that has policies.
    #[default]
    Service,
}

/// `timeout`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeout {
    /// The whole request with its retries; `0s` or absent: none. Source: Envoy `RouteAction.timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<GoDuration>,
    /// With no byte in either direction; `0s`: none, absent: Envoy's 5m. Source: Envoy `RouteAction.idle_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<GoDuration>,
    /// To connect to a host; 10s by default. Source: Envoy `Cluster.connect_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<GoDuration>,
}

/// `retry`. Source: Envoy `RetryPolicy`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    /// Tries after the first, each on a host not yet tried if there is one; 2 by default, 0: none.
    pub attempts: u32,
    /// When to try again. By default `connect-failure`, `refused-stream` and `reset-before-request`, none of which can
    /// repeat an effect.
    pub on: BTreeSet<RetryOn>,
    /// The limit of one try; absent: the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<GoDuration>,
    /// How long to wait between tries. Absent: Envoy's 25ms to 250ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// How much of all requests may be retries. Absent: bounded by `circuitBreaker.maxRetries`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<RetryBudget>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 2,
            on: [RetryOn::CONNECT_FAILURE, RetryOn::REFUSED_STREAM, RetryOn::RESET_BEFORE_REQUEST].into(),
            per_try_timeout: None,
            backoff: None,
            budget: None,
        }
    }
}

/// A condition for a retry: one of Envoy's words, or a status code.
///
/// Source: Envoy, `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema)]
#[schemars(
    with = "serde_json::Value",
    description = format!("A status code, or one of {}.", Self::WORDS.join(", ")),
    extend("x-kubernetes-int-or-string" = true)
)]
pub enum RetryOn {
    /// One of [`RetryOn::WORDS`].
    Word(&'static str),
    /// This status: Envoy's `retriable-status-codes` with it listed.
    Status(u16),
}

impl RetryOn {
    /// The connection could not be made.
    pub const CONNECT_FAILURE: Self = Self::Word("connect-failure");
    /// The host refused the stream unprocessed.
    pub const REFUSED_STREAM: Self = Self::Word("refused-stream");
    /// The connection broke before any of the request was sent.
    pub const RESET_BEFORE_REQUEST: Self = Self::Word("reset-before-request");

    /// All words that Envoy 1.40 knows and that need nothing else to be set.
    pub const WORDS: [&'static str; 14] = [
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "envoy-ratelimited",
        "retriable-4xx",
        "refused-stream",
        "http3-post-connect-failure",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
    ];
}

impl Serialize for RetryOn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Word(word) => serializer.serialize_str(word),
            Self::Status(status) => serializer.serialize_u16(*status),
        }
    }
}

impl<'de> Deserialize<'de> for RetryOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Condition;
        impl de::Visitor<'_> for Condition {
            type Value = RetryOn;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a retry condition or a status code")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<RetryOn, E> {
                if let Ok(status) = word.parse::<u64>() {
                    return self.visit_u64(status);
                }
                let known = RetryOn::WORDS.into_iter().find(|w| *w == word);
                known.map(RetryOn::Word).ok_or_else(|| E::unknown_variant(word, &RetryOn::WORDS))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<RetryOn, E> {
                u16::try_from(n)
                    .ok()
                    .filter(|n| (100..600).contains(n))
                    .map(RetryOn::Status)
                    .ok_or_else(|| E::custom(format!("bad status `{n}`: must be 100 to 599")))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<RetryOn, E> {
                self.visit_u64(u64::try_from(n).unwrap_or_default())
            }
        }
        deserializer.deserialize_any(Condition)
    }
}

/// `retry.backoff`: fully jittered, doubling from `base` up to `max`. Source: Envoy `RetryPolicy.RetryBackOff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// The first wait is at most this long; 25ms by default, at least 1ms.
    pub base: GoDuration,
    /// No wait is longer; ten times `base` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<GoDuration>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: GoDuration::from_millis(25), max: None }
    }
}

/// `retry.budget`. Source: Envoy `CircuitBreakers.Thresholds.RetryBudget`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetryBudget {
    /// The share of the requests under way that may be retries, 0 to 100; 20 by default.
    pub percent: Percent,
    /// Retries that are always allowed, 3 by default.
    pub min_concurrent: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: Percent::new(20.0).unwrap_or_default(), min_concurrent: 3 }
    }
}

/// `loadBalancer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoadBalancer {
    /// How a host is chosen; `least-request` by default.
    pub policy: LbPolicy,
    /// What the hashing policies hash: exactly one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_on: Option<HashOn>,
}

/// How a host is chosen. Source: Envoy `Cluster.LbPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LbPolicy {
    /// One after the other.
    RoundRobin,
    /// The less busy of two drawn.
    #[default]
    LeastRequest,
    /// Any.
    Random,
    /// By a hash of the request, ketama.
    RingHash,
    /// By a hash of the request, Maglev.
    Maglev,
}

impl LbPolicy {
    /// Whether it needs `hashOn`.
    #[must_use]
    pub const fn hashes(self) -> bool {
        matches!(self, Self::RingHash | Self::Maglev)
    }
}

/// What decides the host under a hashing policy. Source: Envoy `RouteAction.HashPolicy`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum HashOn {
    /// This header's value.
    Header(String),
    /// This cookie, which is made when the caller has none and `ttl` is set.
    Cookie(HashCookie),
    /// This query parameter's value.
    Query(String),
    /// The caller's address.
    #[serde(rename = "sourceIP")]
    SourceIp(bool),
}

/// `hashOn.cookie`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HashCookie {
    /// The cookie's name.
    pub name: String,
    /// How long a cookie made here lives; `0s`: the session; absent: none is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<GoDuration>,
}

/// `circuitBreaker`: the limits of one caller's sidecar. Source: Envoy `CircuitBreakers.Thresholds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// Open connections; 1024 by default.
    pub max_connections: u32,
    /// Requests that wait for a connection; 1024 by default.
    pub max_pending_requests: u32,
    /// Requests under way; 1024 by default.
    pub max_requests: u32,
    /// Retries under way; 3 by default.
    pub max_retries: u32,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { max_connections: 1024, max_pending_requests: 1024, max_requests: 1024, max_retries: 3 }
    }
}

/// `outlierDetection`. Source: Envoy `OutlierDetection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OutlierDetection {
    /// Failures in a row that eject a host, 5 by default; 0: none does.
    #[serde(rename = "consecutive5xx")]
    pub consecutive_5xx: u32,
    /// How often it is decided who is left out and who comes back; 10s by default.
    pub interval: GoDuration,
    /// How long a host is left out, times how often it was before; 30s by default.
    pub base_ejection_time: GoDuration,
    /// The share of the hosts that may be left out at once, 0 to 100; 10 by default. One always may.
    pub max_ejection_percent: Percent,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            interval: GoDuration::from_secs(10),
            base_ejection_time: GoDuration::from_secs(30),
            max_ejection_percent: Percent::new(10.0).unwrap_or_default(),
        }
    }
}

/// `connectionPool`. Source: Envoy `HttpProtocolOptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConnectionPool {
    /// When a connection without requests is closed; 1h by default, `0s`: never.
    pub idle_timeout: GoDuration,
    /// After how many requests a connection is closed; 0 by default: any number.
    pub max_requests_per_connection: u32,
}

impl Default for ConnectionPool {
    fn default() -> Self {
        Self { idle_timeout: GoDuration::from_secs(3600), max_requests_per_connection: 0 }
    }
}

/// `rateLimit`: one token bucket in each destination proxy, shared by all callers; over it, 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Tokens that come back each `per`; at least 1.
    pub requests: std::num::NonZeroU32,
    /// 1s by default; at least 50ms, as Envoy demands of a token bucket.
    #[serde(default = "one_second")]
    pub per: GoDuration,
    /// How many the bucket holds; as `requests` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<std::num::NonZeroU32>,
}

fn one_second() -> GoDuration {
    GoDuration::from_secs(1)
}

/// `fault`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// Requests that wait first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// Requests that are answered here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,
}

/// `fault.delay`. Source: Envoy `FaultDelay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// How long they wait; more than zero.
    pub duration: GoDuration,
    /// The share of the requests, 0 to 100; 100 by default.
    #[serde(default = "all")]
    pub percent: Percent,
}

/// `fault.abort`. Source: Envoy `FaultAbort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Abort {
    /// The answer's status, 200 to 599.
    pub status: HttpStatus,
    /// The share of the requests, 0 to 100; 100 by default.
    #[serde(default = "all")]
    pub percent: Percent,
}

/// `mirror`: copies whose answers are thrown away. Source: Envoy `RouteAction.RequestMirrorPolicy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// A Service of the policy's own namespace.
    pub service: String,
    /// The called port by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// The share of the requests, 0 to 100; 100 by default.
    #[serde(default = "all")]
    pub percent: Percent,
}

fn all() -> Percent {
    Percent::ALL
}
