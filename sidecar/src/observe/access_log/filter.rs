//! Which requests an access log tells of.
//! Source: `envoy.config.accesslog.v3.AccessLogFilter`. Runtime keys have no layers here: their defaults hold.

use crate::error::ResponseFlags;
use crate::format::Context;
use crate::http::request_id::{self, TraceReason};
use crate::matcher::{Fraction, HeaderMatcher, MetadataMatcher};

/// A condition on a request that is over.
pub enum Filter {
    StatusCode(Comparison),
    /// Milliseconds.
    Duration(Comparison),
    NotHealthCheck,
    /// The request's id says that it is traced.
    Traceable,
    /// A share of all requests, by their ids unless `independent`.
    Runtime {
        share: Fraction,
        independent: bool,
    },
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Header(HeaderMatcher),
    /// One of these; none named: any at all.
    ResponseFlag(Vec<ResponseFlags>),
    GrpcStatus {
        statuses: Vec<u16>,
        exclude: bool,
    },
    /// Dynamic metadata.
    Metadata {
        matcher: Option<MetadataMatcher>,
        /// What holds where the value is not there.
        absent: bool,
    },
    /// Logs of HTTP requests, and of TCP connections, when they end.
    LogType {
        http: bool,
        tcp: bool,
    },
}

/// Source: `ComparisonFilter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub op: Op,
    pub value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Equal,
    GreaterOrEqual,
    LessOrEqual,
    NotEqual,
}

impl Comparison {
    fn holds(self, value: u64) -> bool {
        match self.op {
            Op::Equal => value == self.value,
            Op::GreaterOrEqual => value >= self.value,
            Op::LessOrEqual => value <= self.value,
            Op::NotEqual => value != self.value,
        }
    }
}

impl Filter {
    /// Is the request to be logged?
    pub fn passes(&self, context: &Context<'_>) -> bool {
        let stream = context.stream;
        match self {
            Filter::StatusCode(comparison) => comparison.holds(stream.response_code.get().unwrap_or(0).into()),
            Filter::Duration(comparison) => stream
                .end
                .get()
                .is_some_and(|end| comparison.holds(end.saturating_duration_since(stream.start).as_millis() as u64)),
            Filter::NotHealthCheck => !stream.health_check.get(),
            Filter::Traceable => {
                let reason = stream.request_id.get().and_then(|id| request_id::trace_reason(id));
                !stream.health_check.get() && reason.is_some_and(|reason| reason != TraceReason::NotTraced)
            }
            Filter::Runtime { share, independent } => {
                let id = stream.request_id.get().filter(|_| !independent);
                let drawn = id.and_then(|id| request_id::sample_value(id));
                share.contains(drawn.unwrap_or_else(|| fastrand::u64(..)))
            }
            Filter::And(all) => all.iter().all(|filter| filter.passes(context)),
            Filter::Or(any) => any.iter().any(|filter| filter.passes(context)),
            Filter::Header(matcher) => context.request.is_some_and(|head| matcher.matches(head)),
            Filter::ResponseFlag(flags) if flags.is_empty() => !stream.response_flags.get().is_empty(),
            Filter::ResponseFlag(flags) => flags.iter().any(|flag| stream.response_flags.get().contains(*flag)),
            Filter::GrpcStatus { statuses, exclude } => statuses.contains(&grpc_status(context)) != *exclude,
            Filter::Metadata { matcher, absent } => {
                let metadata = stream.dynamic_metadata.borrow();
                let found = matcher.as_ref().filter(|matcher| matcher.finds(&metadata));
                found.map_or(*absent, |matcher| matcher.matches(&metadata))
            }
            Filter::LogType { http, tcp } => {
                if stream.protocol.get().is_some() {
                    *http
                } else {
                    *tcp
                }
            }
        }
    }
}

/// The call's own status, or the one that its HTTP status stands for.
/// Source: Envoy's `Grpc::Common::getGrpcStatus` and `Grpc::Utility::httpToGrpcStatus`.
fn grpc_status(context: &Context<'_>) -> u16 {
    let told = [context.trailers, context.response].into_iter().flatten().find_map(|headers| {
        let value = headers.get("grpc-status")?;
        value.to_str().ok()?.parse().ok()
    });
    told.unwrap_or_else(|| match context.stream.response_code.get() {
        Some(400) => 13,
        Some(401) => 16,
        Some(403) => 7,
        Some(404) => 12,
        Some(429 | 502 | 503 | 504) => 14,
        _ => 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons() {
        for (op, holds) in [
            (Op::Equal, [false, true, false]),
            (Op::GreaterOrEqual, [false, true, true]),
            (Op::LessOrEqual, [true, true, false]),
            (Op::NotEqual, [true, false, true]),
        ] {
            let comparison = Comparison { op, value: 400 };
            assert_eq!([399, 400, 401].map(|value| comparison.holds(value)), holds, "{op:?}");
        }
    }
}
