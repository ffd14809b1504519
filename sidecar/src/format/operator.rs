//! The operators: what each one writes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::HeaderMap;

use super::{Context, put};
use crate::net::Address;
use crate::stream::{CertificateFacts, Stream, TlsInfo};

/// One `%OPERATOR%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    Request(String, Option<String>),
    RequestWithoutQuery(String, Option<String>),
    Response(String, Option<String>),
    Trailer(String, Option<String>),
    StartTime(Option<String>),
    Environment(String),
    Metadata(MetadataOf, Vec<String>),
    /// `%QUERY_PARAM(name)%`.
    Query(String),
    /// The request's path, with or without its query (`%PATH(WQ)%`).
    Path {
        query: bool,
    },
    FilterState(String),
    UpstreamFilterState(String),
    Peer(Certificate),
    Local(Certificate),
    /// A certificate's `notBefore` or `notAfter`, with its format.
    Validity {
        peer: bool,
        end: bool,
        format: Option<String>,
    },
    GrpcStatus(GrpcForm),
    Fact(Fact),
}

/// Whose metadata is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataOf {
    /// What filters wrote.
    Dynamic,
    Route,
    Cluster,
    UpstreamHost,
    Listener,
}

/// How a gRPC status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcForm {
    /// `PermissionDenied`.
    Camel,
    /// `PERMISSION_DENIED`.
    Snake,
    Number,
}

/// A field of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    UriSan,
    DnsSan,
    Subject,
    Issuer,
    Serial,
    Fingerprint256,
    Fingerprint1,
}

macro_rules! facts {
    ($($variant:ident = $name:literal;)*) => {
        /// An operator without argument.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fact {
            $($variant,)*
        }

        fn fact(name: &str) -> Option<Fact> {
            match name {
                $($name => Some(Fact::$variant),)*
                _ => None,
            }
        }
    };
}

facts! {
    Protocol = "PROTOCOL";
    ResponseCode = "RESPONSE_CODE";
    ResponseCodeDetails = "RESPONSE_CODE_DETAILS";
    ResponseFlags = "RESPONSE_FLAGS";
    ResponseFlagsLong = "RESPONSE_FLAGS_LONG";
    ConnectionTerminationDetails = "CONNECTION_TERMINATION_DETAILS";
    BytesReceived = "BYTES_RECEIVED";
    BytesSent = "BYTES_SENT";
    Duration = "DURATION";
    RequestDuration = "REQUEST_DURATION";
    ResponseDuration = "RESPONSE_DURATION";
    ResponseTxDuration = "RESPONSE_TX_DURATION";
    UpstreamHost = "UPSTREAM_HOST";
    UpstreamHostName = "UPSTREAM_HOST_NAME";
    UpstreamCluster = "UPSTREAM_CLUSTER";
    UpstreamClusterRaw = "UPSTREAM_CLUSTER_RAW";
    UpstreamLocalAddress = "UPSTREAM_LOCAL_ADDRESS";
    UpstreamLocalAddressWithoutPort = "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT";
    UpstreamRemoteAddress = "UPSTREAM_REMOTE_ADDRESS";
    UpstreamRemoteAddressWithoutPort = "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT";
    UpstreamRemotePort = "UPSTREAM_REMOTE_PORT";
    UpstreamProtocol = "UPSTREAM_PROTOCOL";
    UpstreamTransportFailureReason = "UPSTREAM_TRANSPORT_FAILURE_REASON";
    UpstreamRequestAttemptCount = "UPSTREAM_REQUEST_ATTEMPT_COUNT";
    UpstreamTlsVersion = "UPSTREAM_TLS_VERSION";
    UpstreamTlsCipher = "UPSTREAM_TLS_CIPHER";
    UpstreamPeerUriSan = "UPSTREAM_PEER_URI_SAN";
    UpstreamPeerSubject = "UPSTREAM_PEER_SUBJECT";
    DownstreamRemoteAddress = "DOWNSTREAM_REMOTE_ADDRESS";
    DownstreamRemoteAddressWithoutPort = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT";
    DownstreamRemotePort = "DOWNSTREAM_REMOTE_PORT";
    DownstreamDirectRemoteAddress = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS";
    DownstreamDirectRemoteAddressWithoutPort = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT";
    DownstreamLocalAddress = "DOWNSTREAM_LOCAL_ADDRESS";
    DownstreamLocalAddressWithoutPort = "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT";
    DownstreamLocalPort = "DOWNSTREAM_LOCAL_PORT";
    DownstreamDirectLocalAddress = "DOWNSTREAM_DIRECT_LOCAL_ADDRESS";
    DownstreamTlsVersion = "DOWNSTREAM_TLS_VERSION";
    DownstreamTlsCipher = "DOWNSTREAM_TLS_CIPHER";
    DownstreamTransportFailureReason = "DOWNSTREAM_TRANSPORT_FAILURE_REASON";
    RequestedServerName = "REQUESTED_SERVER_NAME";
    ConnectionId = "CONNECTION_ID";
    RouteName = "ROUTE_NAME";
    VirtualHostName = "VIRTUAL_HOST_NAME";
    VirtualClusterName = "VIRTUAL_CLUSTER_NAME";
    StreamId = "STREAM_ID";
    TraceId = "TRACE_ID";
    LocalReplyBody = "LOCAL_REPLY_BODY";
    Hostname = "HOSTNAME";
    AccessLogType = "ACCESS_LOG_TYPE";
    UniqueId = "UNIQUE_ID";
    RequestedHost = "REQUESTED_HOST";
    UpstreamTlsSessionId = "UPSTREAM_TLS_SESSION_ID";
    DownstreamTlsSessionId = "DOWNSTREAM_TLS_SESSION_ID";
    UpstreamPeerDnsSan = "UPSTREAM_PEER_DNS_SAN";
    UpstreamPeerIssuer = "UPSTREAM_PEER_ISSUER";
    UpstreamLocalUriSan = "UPSTREAM_LOCAL_URI_SAN";
    UpstreamLocalSubject = "UPSTREAM_LOCAL_SUBJECT";
    UpstreamLocalPort = "UPSTREAM_LOCAL_PORT";
    UpstreamConnectionId = "UPSTREAM_CONNECTION_ID";
    DownstreamDirectLocalPort = "DOWNSTREAM_DIRECT_LOCAL_PORT";
    DownstreamDirectRemotePort = "DOWNSTREAM_DIRECT_REMOTE_PORT";
    DownstreamPeerCertificate = "DOWNSTREAM_PEER_CERT";
    RoundtripDuration = "ROUNDTRIP_DURATION";
    FilterChainName = "FILTER_CHAIN_NAME";
    QueryParameters = "QUERY_PARAMS";
}

impl Operator {
    pub(super) fn parse(name: &str, argument: Option<&str>) -> Option<Operator> {
        let headers = |make: fn(String, Option<String>) -> Operator| {
            let (first, second) = argument?.split_once('?').map_or((argument?, None), |(a, b)| (a, Some(b)));
            Some(make(first.to_ascii_lowercase(), second.map(str::to_ascii_lowercase)))
        };
        match name {
            "REQ" => headers(Operator::Request),
            "RESP" => headers(Operator::Response),
            "TRAILER" => headers(Operator::Trailer),
            "START_TIME" => Some(Operator::StartTime(argument.map(str::to_owned))),
            "ENVIRONMENT" => argument.map(|a| Operator::Environment(a.to_owned())),
            "DYNAMIC_METADATA" => metadata_of(MetadataOf::Dynamic, argument?),
            "CLUSTER_METADATA" => metadata_of(MetadataOf::Cluster, argument?),
            "UPSTREAM_METADATA" => metadata_of(MetadataOf::UpstreamHost, argument?),
            "METADATA" => {
                let (of, path) = argument?.split_once(':')?;
                let of = match of {
                    "DYNAMIC" => MetadataOf::Dynamic,
                    "ROUTE" => MetadataOf::Route,
                    "CLUSTER" => MetadataOf::Cluster,
                    "UPSTREAM_HOST" => MetadataOf::UpstreamHost,
                    "LISTENER" => MetadataOf::Listener,
                    _ => return None,
                };
                metadata_of(of, path)
            }
            "QUERY_PARAM" => argument.map(|name| Operator::Query(name.to_owned())),
            "REQ_WITHOUT_QUERY" => headers(Operator::RequestWithoutQuery),
            "PATH" => Some(Operator::Path { query: argument.is_none_or(|a| a.split(':').next() != Some("NQ")) }),
            "GRPC_STATUS_NUMBER" => Some(Operator::GrpcStatus(GrpcForm::Number)),
            "GRPC_STATUS" => match argument {
                None | Some("CAMEL_STRING") => Some(Operator::GrpcStatus(GrpcForm::Camel)),
                Some("SNAKE_STRING") => Some(Operator::GrpcStatus(GrpcForm::Snake)),
                Some("NUMBER") => Some(Operator::GrpcStatus(GrpcForm::Number)),
                Some(_) => None,
            },
            "DOWNSTREAM_PEER_CERT_V_START" => validity(true, false, argument),
            "DOWNSTREAM_PEER_CERT_V_END" => validity(true, true, argument),
            "DOWNSTREAM_LOCAL_CERT_V_START" => validity(false, false, argument),
            "DOWNSTREAM_LOCAL_CERT_V_END" => validity(false, true, argument),
            "FILTER_STATE" => argument.map(|a| Operator::FilterState(a.split(':').next().unwrap_or("").to_owned())),
            "UPSTREAM_FILTER_STATE" => {
                argument.map(|a| Operator::UpstreamFilterState(a.split(':').next().unwrap_or("").to_owned()))
            }
            _ => match name.strip_prefix("DOWNSTREAM_PEER_") {
                Some(field) => certificate(field).map(Operator::Peer),
                None => match name.strip_prefix("DOWNSTREAM_LOCAL_").and_then(certificate) {
                    Some(field) => Some(Operator::Local(field)),
                    None => fact(name).map(Operator::Fact),
                },
            },
        }
    }

    /// Is the value a number where the log keeps types?
    pub(super) fn is_number(&self) -> bool {
        matches!(
            self,
            Operator::GrpcStatus(GrpcForm::Number)
                | Operator::Fact(
                    Fact::ResponseCode
                        | Fact::BytesReceived
                        | Fact::BytesSent
                        | Fact::Duration
                        | Fact::RequestDuration
                        | Fact::ResponseDuration
                        | Fact::ResponseTxDuration
                        | Fact::UpstreamRequestAttemptCount
                        | Fact::DownstreamLocalPort
                        | Fact::DownstreamRemotePort
                        | Fact::UpstreamRemotePort
                        | Fact::ConnectionId
                        | Fact::UpstreamConnectionId
                        | Fact::UpstreamLocalPort
                        | Fact::DownstreamDirectLocalPort
                        | Fact::DownstreamDirectRemotePort
                        | Fact::RoundtripDuration
                )
        )
    }

    /// Does it read the request's headers?
    pub fn reads_request(&self) -> bool {
        matches!(
            self,
            Operator::Request(..)
                | Operator::RequestWithoutQuery(..)
                | Operator::Query(_)
                | Operator::Path { .. }
                | Operator::Fact(Fact::QueryParameters | Fact::RequestedHost)
        )
    }

    /// False if the value is not known.
    pub(super) fn write(&self, out: &mut String, context: &Context<'_>) -> bool {
        match self {
            Operator::Request(first, second) => either(out, first, second.as_deref(), |name| {
                context.request?.header(name).map(|v| String::from_utf8_lossy(&v).into_owned())
            }),
            Operator::RequestWithoutQuery(first, second) => either(out, first, second.as_deref(), |name| {
                let value = context.request?.header(name).map(|v| String::from_utf8_lossy(&v).into_owned())?;
                Some(value.split('?').next().unwrap_or_default().to_owned())
            }),
            Operator::Query(name) => {
                let query = context.request.and_then(crate::request::RequestHead::query);
                let value = query.and_then(|query| crate::matcher::query_value(query, name));
                value.is_some_and(|value| put(out, value))
            }
            Operator::Path { query } => context.request.is_some_and(|head| {
                let path = if *query { head.path_and_query() } else { head.path_only() };
                put(out, path)
            }),
            Operator::Response(first, second) => {
                either(out, first, second.as_deref(), |name| header(context.response, name))
            }
            Operator::Trailer(first, second) => {
                either(out, first, second.as_deref(), |name| header(context.trailers, name))
            }
            Operator::StartTime(format) => start_time(out, context.stream.start_time, format.as_deref()),
            Operator::Environment(name) => std::env::var(name).is_ok_and(|value| put(out, value)),
            Operator::Metadata(of, path) => match of.value(context.stream, path) {
                None | Some(serde_json::Value::Null) => false,
                Some(serde_json::Value::String(text)) => put(out, text),
                Some(other) => put(out, other),
            },
            Operator::FilterState(name) => {
                let told = context.stream.connection.told.peer().filter(|_| name == "downstream_peer");
                match told {
                    Some(peer) => put(out, &peer.shown),
                    None => context.stream.filter_state.borrow().get(name).is_some_and(|value| put(out, value)),
                }
            }
            Operator::UpstreamFilterState(name) => {
                let told = context.stream.upstream.told.borrow();
                told.peer().filter(|_| name == "upstream_peer").is_some_and(|peer| put(out, &peer.shown))
            }
            Operator::Peer(field) => field.write(out, context.stream.connection.peer().map(|c| &**c)),
            Operator::Local(field) => {
                let tls = context.stream.connection.tls.as_ref();
                field.write(out, tls.and_then(|tls| tls.local.as_deref()))
            }
            Operator::Validity { peer, end, format } => {
                let tls = context.stream.connection.tls.as_ref();
                let facts = tls.and_then(|tls| if *peer { tls.peer.as_ref() } else { tls.local.as_ref() });
                let seconds = facts.map(|facts| if *end { facts.not_after } else { facts.not_before });
                let since = seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
                since.is_some_and(|since| start_time(out, UNIX_EPOCH + since, format.as_deref()))
            }
            Operator::GrpcStatus(form) => grpc_status(out, context, *form),
            Operator::Fact(fact) => fact.write(out, context),
        }
    }

    /// The value where it has more structure than a text; `None`: it has not.
    pub(super) fn to_json(&self, context: &Context<'_>) -> Option<serde_json::Value> {
        let Operator::Metadata(of, path) = self else { return None };
        of.value(context.stream, path)
    }
}

fn metadata_of(of: MetadataOf, path: &str) -> Option<Operator> {
    Some(Operator::Metadata(of, path.split(':').map(str::to_owned).collect()))
}

impl MetadataOf {
    fn value(self, stream: &Stream, path: &[String]) -> Option<serde_json::Value> {
        let find = |all: &crate::stream::Metadata| {
            let (namespace, keys) = path.split_first()?;
            keys.iter().try_fold(all.get(namespace)?, |value, key| value.get(key)).cloned()
        };
        match self {
            MetadataOf::Dynamic => find(&stream.dynamic_metadata.borrow()),
            MetadataOf::Route => find(stream.route_metadata.borrow().as_deref()?),
            MetadataOf::Cluster => find(stream.upstream.cluster_metadata.borrow().as_deref()?),
            MetadataOf::UpstreamHost => find(stream.upstream.host_metadata.borrow().as_deref()?),
            MetadataOf::Listener => find(&stream.connection.listener_metadata),
        }
    }
}

fn validity(peer: bool, end: bool, format: Option<&str>) -> Option<Operator> {
    Some(Operator::Validity { peer, end, format: format.map(str::to_owned) })
}

const GRPC: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Known for gRPC requests only. Source: Envoy's `GrpcStatusFormatter`.
fn grpc_status(out: &mut String, context: &Context<'_>, form: GrpcForm) -> bool {
    if !context.request.is_some_and(crate::request::RequestHead::is_grpc) {
        return false;
    }
    let told = header(context.trailers, "grpc-status").or_else(|| header(context.response, "grpc-status"));
    let Some(status) = told else { return false };
    let name = status.parse::<usize>().ok().and_then(|status| GRPC.get(status));
    match (form, name) {
        (GrpcForm::Number, _) | (_, None) => put(out, status),
        (GrpcForm::Camel, Some(name)) => put(out, name),
        (GrpcForm::Snake, Some(name)) if *name == "OK" => put(out, name),
        (GrpcForm::Snake, Some(name)) if *name == "Canceled" => put(out, "CANCELLED"),
        (GrpcForm::Snake, Some(name)) => {
            for (at, c) in name.char_indices() {
                if at > 0 && c.is_ascii_uppercase() {
                    out.push('_');
                }
                out.push(c.to_ascii_uppercase());
            }
            true
        }
    }
}

fn certificate(field: &str) -> Option<Certificate> {
    Some(match field {
        "URI_SAN" => Certificate::UriSan,
        "DNS_SAN" => Certificate::DnsSan,
        "SUBJECT" => Certificate::Subject,
        "ISSUER" => Certificate::Issuer,
        "SERIAL" => Certificate::Serial,
        "FINGERPRINT_256" => Certificate::Fingerprint256,
        "FINGERPRINT_1" => Certificate::Fingerprint1,
        _ => return None,
    })
}

impl Certificate {
    fn write(self, out: &mut String, facts: Option<&CertificateFacts>) -> bool {
        let Some(facts) = facts else { return false };
        let text = match self {
            Certificate::UriSan => facts.uri_sans.join(","),
            Certificate::DnsSan => facts.dns_sans.join(","),
            Certificate::Subject => facts.subject.clone(),
            Certificate::Issuer => facts.issuer.clone(),
            Certificate::Serial => facts.serial.clone(),
            Certificate::Fingerprint256 => facts.sha256.clone(),
            Certificate::Fingerprint1 => facts.sha1.clone(),
        };
        !text.is_empty() && put(out, text)
    }
}

fn either(out: &mut String, first: &str, second: Option<&str>, get: impl Fn(&str) -> Option<String>) -> bool {
    get(first).or_else(|| get(second?)).is_some_and(|value| put(out, value))
}

fn header(headers: Option<&HeaderMap>, name: &str) -> Option<String> {
    crate::request::joined(headers?, name).map(|v| String::from_utf8_lossy(&v).into_owned())
}

/// Envoy's `%f`, `%3f`, `%s` beside what strftime knows.
fn start_time(out: &mut String, time: SystemTime, format: Option<&str>) -> bool {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = jiff::Timestamp::new(since.as_secs() as i64, since.subsec_nanos() as i32).unwrap_or_default();
    match format {
        None => put(out, timestamp.strftime("%Y-%m-%dT%H:%M:%S.%3fZ")),
        Some(format) => {
            let zoned = timestamp.to_zoned(jiff::tz::TimeZone::UTC);
            let text = format.replace("%f", "%9f");
            match jiff::fmt::strtime::format(&text, &zoned) {
                Ok(text) => put(out, text),
                Err(_) => false,
            }
        }
    }
}

fn millis(out: &mut String, span: Option<Duration>) -> bool {
    span.is_some_and(|span| put(out, span.as_millis()))
}

fn address(out: &mut String, address: Option<&Address>, port: bool) -> bool {
    match address {
        None => false,
        Some(Address::Ip(a)) if !port => put(out, a.ip()),
        Some(other) => put(out, other),
    }
}

fn tls(out: &mut String, tls: Option<&TlsInfo>, field: impl Fn(&TlsInfo) -> &str) -> bool {
    tls.is_some_and(|tls| !field(tls).is_empty() && put(out, field(tls)))
}

impl Fact {
    fn write(self, out: &mut String, context: &Context<'_>) -> bool {
        let stream = context.stream;
        let connection = &stream.connection;
        let upstream = &stream.upstream;
        let since = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(stream.start));
        let text = |out: &mut String, text: Option<&str>| text.is_some_and(|t| !t.is_empty() && put(out, t));
        match self {
            Fact::Protocol => stream.protocol.get().is_some_and(|p| put(out, p.as_str())),
            Fact::ResponseCode => put(out, stream.response_code.get().unwrap_or(0)),
            Fact::ResponseCodeDetails => text(out, stream.response_code_details.borrow().as_deref()),
            Fact::ResponseFlags => put(out, stream.response_flags.get().short()),
            Fact::ResponseFlagsLong => put(out, stream.response_flags.get().long()),
            Fact::ConnectionTerminationDetails => text(out, connection.termination_details.borrow().as_deref()),
            Fact::BytesReceived => put(out, stream.bytes_received.get()),
            Fact::BytesSent => put(out, stream.bytes_sent.get()),
            Fact::Duration => millis(out, since(stream.end.get())),
            Fact::RequestDuration => millis(out, since(stream.request_complete.get())),
            Fact::ResponseDuration => millis(out, since(upstream.first_byte_received.get())),
            Fact::ResponseTxDuration => {
                let begun = upstream.first_byte_received.get();
                millis(out, begun.and_then(|at| Some(stream.end.get()?.saturating_duration_since(at))))
            }
            Fact::UpstreamHost => address(out, upstream.host.borrow().as_ref(), true),
            // The remote end of a connection: without one there is none, whichever host was chosen.
            Fact::UpstreamRemoteAddress | Fact::UpstreamRemoteAddressWithoutPort | Fact::UpstreamRemotePort
                if upstream.local_address.get().is_none() =>
            {
                false
            }
            Fact::UpstreamRemoteAddress => address(out, upstream.host.borrow().as_ref(), true),
            Fact::UpstreamRemoteAddressWithoutPort => address(out, upstream.host.borrow().as_ref(), false),
            Fact::UpstreamRemotePort => {
                upstream.host.borrow().as_ref().and_then(Address::socket).is_some_and(|a| put(out, a.port()))
            }
            Fact::UpstreamHostName => {
                text(out, upstream.hostname.borrow().as_deref()) || address(out, upstream.host.borrow().as_ref(), true)
            }
            Fact::UpstreamCluster | Fact::UpstreamClusterRaw => text(out, upstream.cluster.borrow().as_deref()),
            Fact::UpstreamLocalAddress => upstream.local_address.get().is_some_and(|a| put(out, a)),
            Fact::UpstreamLocalAddressWithoutPort => upstream.local_address.get().is_some_and(|a| put(out, a.ip())),
            Fact::UpstreamProtocol => upstream.protocol.get().is_some_and(|p| put(out, p.as_str())),
            Fact::UpstreamTransportFailureReason => {
                let reason = upstream.transport_failure.borrow();
                reason.as_ref().is_some_and(|reason| put(out, reason.replace(' ', "_")))
            }
            Fact::UpstreamRequestAttemptCount => put(out, upstream.attempts.get()),
            Fact::UpstreamTlsVersion => tls(out, upstream.tls.borrow().as_deref(), |t| &t.version),
            Fact::UpstreamTlsCipher => tls(out, upstream.tls.borrow().as_deref(), |t| &t.cipher),
            Fact::UpstreamPeerUriSan | Fact::UpstreamPeerSubject => {
                let info = upstream.tls.borrow();
                let field = if self == Fact::UpstreamPeerUriSan { Certificate::UriSan } else { Certificate::Subject };
                field.write(out, info.as_ref().and_then(|t| t.peer.as_deref()))
            }
            Fact::DownstreamRemoteAddress => address(out, Some(&stream.remote.borrow()), true),
            Fact::DownstreamRemoteAddressWithoutPort => address(out, Some(&stream.remote.borrow()), false),
            Fact::DownstreamRemotePort => stream.remote.borrow().socket().is_some_and(|a| put(out, a.port())),
            Fact::DownstreamDirectRemoteAddress => address(out, Some(&connection.direct_remote), true),
            Fact::DownstreamDirectRemoteAddressWithoutPort => address(out, Some(&connection.direct_remote), false),
            Fact::DownstreamLocalAddress => address(out, Some(&connection.local), true),
            Fact::DownstreamLocalAddressWithoutPort => address(out, Some(&connection.local), false),
            Fact::DownstreamLocalPort => connection.local.socket().is_some_and(|a| put(out, a.port())),
            Fact::DownstreamDirectLocalAddress => address(out, Some(&connection.direct_local), true),
            Fact::DownstreamTlsVersion => tls(out, connection.tls.as_deref(), |t| &t.version),
            Fact::DownstreamTlsCipher => tls(out, connection.tls.as_deref(), |t| &t.cipher),
            Fact::DownstreamTransportFailureReason => text(out, connection.transport_failure.borrow().as_deref()),
            Fact::RequestedServerName => text(out, Some(connection.sni())),
            Fact::ConnectionId => put(out, connection.id),
            Fact::RouteName => text(out, stream.route_name.borrow().as_deref()),
            Fact::VirtualHostName => text(out, stream.virtual_host.borrow().as_deref()),
            Fact::VirtualClusterName => text(out, stream.virtual_cluster.borrow().as_deref()),
            Fact::StreamId => text(out, stream.request_id.get().map(String::as_str)),
            Fact::TraceId => text(out, stream.trace_id.borrow().as_deref()),
            Fact::LocalReplyBody => put(out, context.local_reply_body),
            Fact::Hostname => {
                std::fs::read_to_string("/proc/sys/kernel/hostname").is_ok_and(|name| put(out, name.trim_end()))
            }
            Fact::AccessLogType => put(out, "DownstreamEnd"),
            Fact::UniqueId => put(out, uuid::Uuid::new_v4()),
            Fact::RequestedHost => context.request.is_some_and(|head| text(out, Some(head.authority_str()))),
            Fact::QueryParameters => context.request.is_some_and(|head| text(out, head.query())),
            Fact::UpstreamTlsSessionId => tls(out, upstream.tls.borrow().as_deref(), |t| &t.session_id),
            Fact::DownstreamTlsSessionId => tls(out, connection.tls.as_deref(), |t| &t.session_id),
            Fact::UpstreamPeerDnsSan | Fact::UpstreamPeerIssuer => {
                let info = upstream.tls.borrow();
                let field = if self == Fact::UpstreamPeerDnsSan { Certificate::DnsSan } else { Certificate::Issuer };
                field.write(out, info.as_ref().and_then(|t| t.peer.as_deref()))
            }
            Fact::UpstreamLocalUriSan | Fact::UpstreamLocalSubject => {
                let info = upstream.tls.borrow();
                let field = if self == Fact::UpstreamLocalUriSan { Certificate::UriSan } else { Certificate::Subject };
                field.write(out, info.as_ref().and_then(|t| t.local.as_deref()))
            }
            Fact::UpstreamLocalPort => upstream.local_address.get().is_some_and(|a| put(out, a.port())),
            Fact::UpstreamConnectionId => upstream.connection_id.get().is_some_and(|id| put(out, id)),
            Fact::DownstreamDirectLocalPort => connection.direct_local.socket().is_some_and(|a| put(out, a.port())),
            Fact::DownstreamDirectRemotePort => connection.direct_remote.socket().is_some_and(|a| put(out, a.port())),
            Fact::DownstreamPeerCertificate => text(out, connection.peer().map(|facts| facts.url_encoded_pem())),
            Fact::RoundtripDuration => millis(out, since(stream.end.get())),
            Fact::FilterChainName => text(out, Some(&connection.filter_chain)),
        }
    }
}
