//! Spans: whether a request is traced, whose child its span is, what the span says, and what is told
//! upstream. Sending them is `exporter`'s work. Source: Envoy's Zipkin tracer and `HttpTracerUtility`.

pub mod config;
mod context;
pub mod exporter;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use http::HeaderMap;
use serde_json::{Value, json};

use crate::format::Format;
use crate::http::request_id::{self, TraceReason};
use crate::request::RequestHead;
use crate::stream::Stream;
pub use context::{Context, Propagation};

/// Who this proxy is in its spans; set once, when it starts.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub id: String,
    pub cluster: String,
    pub zone: String,
}

static NODE: OnceLock<Node> = OnceLock::new();

/// Says who this proxy is. Later calls change nothing.
pub fn set_node(node: Node) {
    let _ = NODE.set(node);
}

/// The cluster that this proxy is part of, as it calls itself; empty if it does not say.
pub fn service_cluster() -> String {
    NODE.get().map(|node| node.cluster.clone()).unwrap_or_default()
}

/// Which side of a call a span shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// A connection manager's tracing. Source: `HttpConnectionManager.tracing`.
pub struct Tracer {
    /// Shares in hundredths of a percent.
    pub client_sampling: u32,
    pub random_sampling: u32,
    pub overall_sampling: u32,
    pub max_path_length: usize,
    pub side: Side,
    pub own_address: Option<IpAddr>,
    pub custom_tags: Vec<(String, CustomTag)>,
    /// Server and client of one call share a span.
    pub shared: bool,
    pub trace_id_128bit: bool,
    pub propagation: Propagation,
    pub collector: Arc<exporter::Collector>,
}

/// Source: `type.tracing.v3.CustomTag`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustomTag {
    Literal(String),
    Header {
        name: String,
        default: String,
    },
    /// What is known when the request has ended.
    Late {
        value: Format,
        default: String,
    },
}

/// A request's span while it runs.
pub struct Span {
    context: Context,
    shared: bool,
    /// The caller's proxy named the operation: its name goes before the route's.
    told: Option<String>,
    name: String,
    tags: Vec<(String, String)>,
}

/// How proxies tell each other what an operation is called. Source: Envoy's "x-envoy-decorator-operation".
const OPERATION: &str = "x-envoy-decorator-operation";

impl Tracer {
    /// Decides, and tells upstream. `None`: no span is kept of this request.
    pub fn begin(&self, rules: &request_id::RequestIdRules, head: &mut RequestHead, stream: &Stream) -> Option<Span> {
        let traced = self.decide(rules, head);
        let told = match self.side {
            Side::Server => head.headers.remove(OPERATION).and_then(|v| v.to_str().ok().map(str::to_owned)),
            Side::Client => None,
        };
        let came = Context::extract(&head.headers, self.propagation).ok()?;
        let (context, shared) = match &came {
            Some(came) => came.child(self.side, self.shared, traced),
            None => {
                let sampled = Context::sampled_alone(&head.headers).unwrap_or(traced);
                let shared = self.shared && self.side == Side::Server;
                (Context::root(self.trace_id_128bit, sampled, &head.headers), shared)
            }
        };
        context.inject(&mut head.headers, self.propagation);
        *stream.trace_id.borrow_mut() = Some(context.trace_id());
        if !context.sampled {
            return None;
        }
        let name = head.authority_str().to_owned();
        Some(Span { shared, told: told.filter(|told| !told.is_empty()), name, tags: self.request_tags(head), context })
    }

    /// Tells the called side's proxy what the route calls the operation.
    pub fn tell_operation(&self, head: &mut RequestHead, operation: Option<&str>) {
        if let (Side::Client, Some(operation)) = (self.side, operation) {
            head.set(OPERATION, operation);
        }
    }

    /// Source: `ConnectionManagerUtility::mutateTracingRequestHeader`.
    fn decide(&self, rules: &request_id::RequestIdRules, head: &mut RequestHead) -> bool {
        let id = head.headers.get(request_id::X_REQUEST_ID).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let Some(id) = id else { return false };
        let random = match rules.use_for_sampling {
            true => request_id::sample_value(&id).unwrap_or_else(|| fastrand::u64(..)),
            false => fastrand::u64(..),
        };
        let drawn = |share: u32, random: u64| random % 10_000 < u64::from(share);
        let mut reason = request_id::trace_reason(&id).unwrap_or(TraceReason::NotTraced);
        if reason == TraceReason::NotTraced {
            reason = match () {
                () if head.headers.contains_key("x-client-trace-id")
                    && drawn(self.client_sampling, fastrand::u64(..)) =>
                {
                    TraceReason::ClientForced
                }
                () if head.headers.contains_key("x-envoy-force-trace") => TraceReason::ServiceForced,
                () if drawn(self.random_sampling, random) => TraceReason::Sampled,
                () => TraceReason::NotTraced,
            };
        }
        if reason != TraceReason::NotTraced && !drawn(self.overall_sampling, random) {
            reason = TraceReason::NotTraced;
        }
        if rules.pack_trace_reason
            && let Some(packed) = request_id::with_trace_reason(&id, reason)
        {
            head.set("x-request-id", &packed);
        }
        reason != TraceReason::NotTraced
    }

    fn request_tags(&self, head: &RequestHead) -> Vec<(String, String)> {
        let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok());
        let node = NODE.get().cloned().unwrap_or_default();
        let scheme = header("x-forwarded-proto").unwrap_or(head.scheme.as_str());
        let path = header("x-envoy-original-path").unwrap_or(head.path_and_query());
        let path: String = path.chars().take(self.max_path_length).collect();
        let mut tags = vec![
            ("component".to_owned(), "proxy".to_owned()),
            ("http.url".to_owned(), format!("{scheme}://{}{path}", head.authority_str())),
            ("http.method".to_owned(), head.method.as_str().to_owned()),
            ("http.protocol".to_owned(), head.protocol.as_str().to_owned()),
            ("user_agent".to_owned(), header("user-agent").unwrap_or("-").to_owned()),
            ("downstream_cluster".to_owned(), header("x-envoy-downstream-service-cluster").unwrap_or("-").to_owned()),
        ];
        let mut add = |key: &str, value: Option<&str>| {
            tags.extend(value.filter(|v| !v.is_empty()).map(|value| (key.to_owned(), value.to_owned())));
        };
        add("node_id", Some(&node.id));
        add("zone", Some(&node.zone));
        add("guid:x-request-id", header("x-request-id"));
        add("guid:x-client-trace-id", header("x-client-trace-id"));
        if head.is_grpc() {
            add("grpc.path", Some(head.path_and_query()));
            add("grpc.authority", Some(head.authority_str()));
            add("grpc.content_type", header("content-type"));
            add("grpc.timeout", header("grpc-timeout"));
        }
        for (key, tag) in &self.custom_tags {
            match tag {
                CustomTag::Literal(value) => add(key, Some(value)),
                CustomTag::Header { name, default } => add(key, header(name).or(Some(default))),
                CustomTag::Late { .. } => {}
            }
        }
        tags
    }

    /// Ends a span and hands it over. `operation` is the route's name for it.
    pub fn end(
        &self,
        span: Span,
        stream: &Stream,
        operation: Option<&str>,
        response: Option<&HeaderMap>,
        trailers: Option<&HeaderMap>,
    ) {
        let Span { context, shared, told, name, tags } = span;
        let mut all: serde_json::Map<String, Value> = tags.into_iter().map(|(k, v)| (k, Value::String(v))).collect();
        let mut add = |key: &str, value: String| {
            all.insert(key.to_owned(), Value::String(value));
        };
        let context_of = crate::format::Context { response, trailers, ..crate::format::Context::of(stream) };
        for (key, tag) in &self.custom_tags {
            if let CustomTag::Late { value, default } = tag {
                let value = Some(value.to_text_or_empty(&context_of)).filter(|value| !value.is_empty());
                let value = value.unwrap_or_else(|| default.clone());
                if !value.is_empty() {
                    add(key, value);
                }
            }
        }
        let code = stream.response_code.get().unwrap_or(0);
        let peer = &stream.connection.direct_remote;
        add("peer.address", peer.ip().map_or_else(|| peer.to_string(), |ip| ip.to_string()));
        add("request_size", stream.bytes_received.get().to_string());
        add("response_size", stream.bytes_sent.get().to_string());
        add("response_flags", stream.response_flags.get().short().into_owned());
        add("http.status_code", code.to_string());
        if let Some(cluster) = stream.upstream.cluster.borrow().as_deref() {
            add("upstream_cluster", cluster.to_owned());
            add("upstream_cluster.name", cluster.to_owned());
        }
        let grpc = |name: &str| {
            let value = trailers.and_then(|t| t.get(name)).or_else(|| response.and_then(|r| r.get(name)));
            value.and_then(|v| v.to_str().ok()).map(str::to_owned)
        };
        let grpc_status = grpc("grpc-status");
        // Statuses that say that the server failed. Source: `HttpTracerUtility`, `isGrpcError`.
        let failed = grpc_status.as_deref().is_some_and(|s| ["2", "4", "12", "13", "14", "15"].contains(&s));
        if let Some(status) = grpc_status {
            add("grpc.status_code", status);
            if let Some(message) = grpc("grpc-message") {
                add("grpc.message", message);
            }
        }
        if code == 0 || code >= 500 || failed {
            add("error", "true".to_owned());
        }
        let micros = stream.start_time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64);
        let ended = stream.end.get().unwrap_or_else(std::time::Instant::now);
        let taken = (ended.saturating_duration_since(stream.start).as_micros() as u64).max(1);
        let (kind, ended) = match self.side {
            Side::Client => ("CLIENT", "cr"),
            Side::Server => ("SERVER", "ss"),
        };
        let ip = self.own_address.map_or_else(|| "127.0.0.1".to_owned(), |ip| ip.to_string());
        let mut endpoint = json!({ "ipv4": ip, "port": 0 });
        if let Some(cluster) = NODE.get().map(|node| &node.cluster).filter(|cluster| !cluster.is_empty()) {
            endpoint["serviceName"] = json!(cluster);
        }
        let mut span = json!({
            "traceId": context.trace_id(),
            "id": context.span_id(),
            "name": told.as_deref().or(operation).unwrap_or(&name),
            "kind": kind,
            "timestamp": micros,
            "duration": taken,
            "localEndpoint": endpoint,
            "annotations": [{ "timestamp": micros + taken, "value": ended }],
            "tags": all,
        });
        if let Some(parent) = context.parent_id() {
            span["parentId"] = json!(parent);
        }
        if shared {
            span["shared"] = json!(true);
        }
        exporter::report(&self.collector, span);
    }
}
