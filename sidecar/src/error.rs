//! Everything that can go wrong with a request or a connection, as a closed list. Each error knows
//! its status, its Envoy response flag, its details and whether a retry may help; `http::local_reply`
//! is the only place that turns one into a response.

use std::borrow::Cow;
use std::fmt;

/// A set of Envoy response flags that remembers in which order they were set.
/// Source: `envoy/stream_info/stream_info.h`, `CoreResponseFlag`, in the order of its declaration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags {
    bits: u32,
    /// The numbers of the first twelve plus one, five bits each, the first lowest.
    order: u64,
}

const ORDERED: u32 = 12;

macro_rules! response_flags {
    ($($name:ident = $bit:literal, $short:literal, $long:literal;)*) => {
        impl ResponseFlags {
            $(pub const $name: ResponseFlags = ResponseFlags { bits: 1 << $bit, order: $bit + 1 };)*
            /// Short and long names by number.
            const TABLE: &'static [(&'static str, &'static str)] = &[$(($short, $long),)*];
        }
    };
}

response_flags! {
    FAILED_LOCAL_HEALTH_CHECK = 0, "LH", "FailedLocalHealthCheck";
    NO_HEALTHY_UPSTREAM = 1, "UH", "NoHealthyUpstream";
    UPSTREAM_REQUEST_TIMEOUT = 2, "UT", "UpstreamRequestTimeout";
    LOCAL_RESET = 3, "LR", "LocalReset";
    UPSTREAM_REMOTE_RESET = 4, "UR", "UpstreamRemoteReset";
    UPSTREAM_CONNECTION_FAILURE = 5, "UF", "UpstreamConnectionFailure";
    UPSTREAM_CONNECTION_TERMINATION = 6, "UC", "UpstreamConnectionTermination";
    UPSTREAM_OVERFLOW = 7, "UO", "UpstreamOverflow";
    NO_ROUTE_FOUND = 8, "NR", "NoRouteFound";
    DELAY_INJECTED = 9, "DI", "DelayInjected";
    FAULT_INJECTED = 10, "FI", "FaultInjected";
    RATE_LIMITED = 11, "RL", "RateLimited";
    UNAUTHORIZED_EXTERNAL_SERVICE = 12, "UAEX", "UnauthorizedExternalService";
    RATE_LIMIT_SERVICE_ERROR = 13, "RLSE", "RateLimitServiceError";
    DOWNSTREAM_CONNECTION_TERMINATION = 14, "DC", "DownstreamConnectionTermination";
    UPSTREAM_RETRY_LIMIT_EXCEEDED = 15, "URX", "UpstreamRetryLimitExceeded";
    STREAM_IDLE_TIMEOUT = 16, "SI", "StreamIdleTimeout";
    INVALID_ENVOY_REQUEST_HEADERS = 17, "IH", "InvalidEnvoyRequestHeaders";
    DOWNSTREAM_PROTOCOL_ERROR = 18, "DPE", "DownstreamProtocolError";
    UPSTREAM_MAX_STREAM_DURATION_REACHED = 19, "UMSDR", "UpstreamMaxStreamDurationReached";
    RESPONSE_FROM_CACHE = 20, "RFCF", "ResponseFromCacheFilter";
    NO_FILTER_CONFIG_FOUND = 21, "NFCF", "NoFilterConfigFound";
    DURATION_TIMEOUT = 22, "DT", "DurationTimeout";
    UPSTREAM_PROTOCOL_ERROR = 23, "UPE", "UpstreamProtocolError";
    NO_CLUSTER_FOUND = 24, "NC", "NoClusterFound";
    OVERLOAD_MANAGER = 25, "OM", "OverloadManagerTerminated";
    DNS_RESOLUTION_FAILED = 26, "DF", "DnsResolutionFailed";
    DROP_OVERLOAD = 27, "DO", "DropOverload";
    DOWNSTREAM_REMOTE_RESET = 28, "DR", "DownstreamRemoteReset";
    UNCONDITIONAL_DROP_OVERLOAD = 29, "UDO", "UnconditionalDropOverload";
}

impl ResponseFlags {
    pub const NONE: ResponseFlags = ResponseFlags { bits: 0, order: 0 };

    pub fn is_empty(self) -> bool {
        self.bits == 0
    }

    pub fn contains(self, other: ResponseFlags) -> bool {
        self.bits & other.bits == other.bits
    }

    /// These flags, then those of the other that are new.
    #[must_use]
    pub fn union(self, other: ResponseFlags) -> ResponseFlags {
        let mut all = self;
        for number in other.numbers() {
            let count = all.bits.count_ones();
            if all.bits & (1 << number) == 0 && count < ORDERED {
                all.order |= u64::from(number + 1) << (count * 5);
            }
            all.bits |= 1 << number;
        }
        all
    }

    fn numbers(self) -> impl Iterator<Item = u32> {
        (0..ORDERED).map(move |place| (self.order >> (place * 5)) as u32 & 0x1f).take_while(|n| *n > 0).map(|n| n - 1)
    }

    /// The flag with this short name (`UH`), if there is one.
    pub fn by_short_name(name: &str) -> Option<ResponseFlags> {
        let at = Self::TABLE.iter().position(|(short, _)| *short == name)?;
        Some(ResponseFlags { bits: 1 << at, order: at as u64 + 1 })
    }

    /// The short names joined by commas, `-` when empty (`%RESPONSE_FLAGS%`).
    pub fn short(self) -> Cow<'static, str> {
        self.join(|row| row.0)
    }

    /// The long names joined by commas, `-` when empty (`%RESPONSE_FLAGS_LONG%`).
    pub fn long(self) -> Cow<'static, str> {
        self.join(|row| row.1)
    }

    fn join(self, name: impl Fn(&(&'static str, &'static str)) -> &'static str) -> Cow<'static, str> {
        let mut set = self.numbers().filter_map(|number| Self::TABLE.get(number as usize));
        match (set.next(), set.next()) {
            (None, _) => Cow::Borrowed("-"),
            (Some(only), None) => Cow::Borrowed(name(only)),
            (Some(first), Some(second)) => {
                let mut text = format!("{},{}", name(first), name(second));
                for row in set {
                    text.push(',');
                    text.push_str(name(row));
                }
                Cow::Owned(text)
            }
        }
    }
}

/// Why an upstream stream ended before its response was complete.
/// Source: Envoy's `StreamResetReason` and the words `Utility::resetReasonToString` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// No connection could be made (refused, unreachable, TLS failure).
    RemoteConnectionFailure,
    LocalConnectionFailure,
    /// The connect timeout passed.
    ConnectionTimeout,
    /// The connection ended while the stream was open.
    ConnectionTermination,
    /// The same for a connection that had served before, with nothing of an answer to a request that may be sent twice: most
    /// likely the peer closed it while it was idle. Source: RFC 9112, section 9.3.1; Envoy does not tell it apart.
    StaleConnection,
    /// The peer reset this stream (HTTP/2 RST_STREAM).
    RemoteReset,
    /// The peer refused this stream before it did anything (REFUSED_STREAM).
    RemoteRefusedStream,
    LocalReset,
    /// A circuit breaker was full.
    Overflow,
    ProtocolError,
}

impl ResetReason {
    /// Envoy's words for it, as in a local reply's body.
    pub fn words(self) -> &'static str {
        match self {
            ResetReason::RemoteConnectionFailure => "remote connection failure",
            ResetReason::LocalConnectionFailure => "local connection failure",
            ResetReason::ConnectionTimeout => "connection timeout",
            ResetReason::ConnectionTermination | ResetReason::StaleConnection => "connection termination",
            ResetReason::RemoteReset => "remote reset",
            ResetReason::RemoteRefusedStream => "remote refused stream reset",
            ResetReason::LocalReset => "local reset",
            ResetReason::Overflow => "overflow",
            ResetReason::ProtocolError => "protocol error",
        }
    }

    fn flags(self) -> ResponseFlags {
        match self {
            ResetReason::RemoteConnectionFailure
            | ResetReason::LocalConnectionFailure
            | ResetReason::ConnectionTimeout => ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
            ResetReason::ConnectionTermination | ResetReason::StaleConnection => {
                ResponseFlags::UPSTREAM_CONNECTION_TERMINATION
            }
            ResetReason::RemoteReset | ResetReason::RemoteRefusedStream => ResponseFlags::UPSTREAM_REMOTE_RESET,
            ResetReason::LocalReset => ResponseFlags::LOCAL_RESET,
            ResetReason::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
            ResetReason::ProtocolError => ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
        }
    }
}

/// Why a request got no upstream response. Cloned freely: a retry keeps the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// No route matched.
    NoRoute,
    /// The route names a cluster that does not exist; the status is the route's `cluster_not_found_response_code`.
    NoCluster { status: u16 },
    /// The cluster has no host that may be used.
    NoHealthyUpstream,
    /// The name the request asks for can't be resolved.
    NameNotResolved,
    /// The upstream stream ended before its headers came.
    Reset { reason: ResetReason, transport_failure: Option<String> },
    /// The route's timeout passed.
    RequestTimeout,
    /// One try's timeout passed.
    PerTryTimeout,
    /// No byte moved for a whole per-try idle timeout.
    PerTryIdleTimeout,
    /// `max_stream_duration` of the route passed.
    MaxDuration,
    /// The stream's idle timeout passed.
    StreamIdle,
    /// The stream lasted longer than it may.
    StreamDuration,
    /// The caller went away.
    DownstreamGone,
    /// The caller's body broke the protocol.
    DownstreamProtocol,
    /// The caller's body was too large to be buffered.
    PayloadTooLarge,
}

impl ProxyError {
    pub fn reset(reason: ResetReason) -> Self {
        ProxyError::Reset { reason, transport_failure: None }
    }

    /// The status a local reply gets.
    pub fn status(&self) -> u16 {
        match self {
            ProxyError::NoRoute => 404,
            ProxyError::NoCluster { status } => *status,
            ProxyError::NoHealthyUpstream | ProxyError::NameNotResolved => 503,
            ProxyError::Reset { reason: ResetReason::ProtocolError, .. } => 502,
            ProxyError::Reset { .. } => 503,
            ProxyError::RequestTimeout
            | ProxyError::PerTryTimeout
            | ProxyError::PerTryIdleTimeout
            | ProxyError::MaxDuration => 504,
            ProxyError::StreamIdle | ProxyError::StreamDuration => 504,
            ProxyError::DownstreamGone => 0,
            ProxyError::DownstreamProtocol => 400,
            ProxyError::PayloadTooLarge => 413,
        }
    }

    pub fn flags(&self) -> ResponseFlags {
        match self {
            ProxyError::NoRoute => ResponseFlags::NO_ROUTE_FOUND,
            ProxyError::NoCluster { .. } => ResponseFlags::NO_CLUSTER_FOUND,
            ProxyError::NoHealthyUpstream => ResponseFlags::NO_HEALTHY_UPSTREAM,
            ProxyError::NameNotResolved => ResponseFlags::DNS_RESOLUTION_FAILED,
            ProxyError::Reset { reason, .. } => reason.flags(),
            ProxyError::RequestTimeout | ProxyError::PerTryTimeout => ResponseFlags::UPSTREAM_REQUEST_TIMEOUT,
            ProxyError::PerTryIdleTimeout => ResponseFlags::STREAM_IDLE_TIMEOUT,
            ProxyError::MaxDuration => ResponseFlags::UPSTREAM_MAX_STREAM_DURATION_REACHED,
            ProxyError::StreamIdle => ResponseFlags::STREAM_IDLE_TIMEOUT,
            ProxyError::DownstreamGone => ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION,
            ProxyError::DownstreamProtocol => ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR,
            ProxyError::PayloadTooLarge | ProxyError::StreamDuration => ResponseFlags::NONE,
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`.
    pub fn details(&self) -> Cow<'static, str> {
        match self {
            ProxyError::NoRoute => "route_not_found".into(),
            ProxyError::NoCluster { .. } => "cluster_not_found".into(),
            ProxyError::NoHealthyUpstream => "no_healthy_upstream".into(),
            ProxyError::NameNotResolved => "dns_resolution_failure".into(),
            ProxyError::Reset { reason: ResetReason::Overflow, .. } => {
                "upstream_reset_before_response_started{overflow}".into()
            }
            ProxyError::Reset { reason, transport_failure } => {
                let mut inner = reason.words().to_owned();
                if let Some(failure) = transport_failure {
                    inner.push('|');
                    inner.push_str(failure);
                }
                format!("upstream_reset_before_response_started{{{}}}", inner.replace(' ', "_")).into()
            }
            ProxyError::RequestTimeout => "response_timeout".into(),
            ProxyError::PerTryTimeout => "upstream_per_try_timeout".into(),
            ProxyError::PerTryIdleTimeout => "upstream_per_try_idle_timeout".into(),
            ProxyError::MaxDuration => "upstream_max_stream_duration_reached".into(),
            ProxyError::StreamIdle => "stream_idle_timeout".into(),
            ProxyError::StreamDuration => "max_duration_timeout".into(),
            ProxyError::DownstreamGone => "downstream_remote_disconnect".into(),
            ProxyError::DownstreamProtocol => "http1.codec_error".into(),
            ProxyError::PayloadTooLarge => "request_payload_too_large".into(),
        }
    }

    /// The body of the local reply.
    pub fn body(&self) -> Cow<'static, str> {
        match self {
            ProxyError::NoRoute | ProxyError::NoCluster { .. } | ProxyError::DownstreamGone => "".into(),
            ProxyError::NoHealthyUpstream => "no healthy upstream".into(),
            ProxyError::NameNotResolved => "DNS resolution failure".into(),
            // Envoy 1.40 keeps the transport failure out of the body: it would tell callers about the inside.
            ProxyError::Reset { reason, .. } => {
                format!("upstream connect error or disconnect/reset before headers. reset reason: {}", reason.words())
                    .into()
            }
            ProxyError::RequestTimeout | ProxyError::PerTryTimeout | ProxyError::PerTryIdleTimeout => {
                "upstream request timeout".into()
            }
            ProxyError::MaxDuration => "upstream max stream duration reached".into(),
            ProxyError::StreamIdle => "stream timeout".into(),
            ProxyError::StreamDuration => "downstream duration timeout".into(),
            ProxyError::DownstreamProtocol => "Bad Request".into(),
            ProxyError::PayloadTooLarge => "Payload Too Large".into(),
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.details())
    }
}

impl std::error::Error for ProxyError {}
