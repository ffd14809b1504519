//! One request's tracing: whether it is sampled, where its span stands, and what the span tells.
//! Source: Envoy's `TracerUtility`, `HttpTracerUtility` and Zipkin driver.
//!
//! Deliberate difference: `http.url` shows path and host as the caller sent them, not as a route
//! rewrote them.

use std::borrow::Cow;
use std::time::Instant;

use http::HeaderMap;
use http::header::HeaderName;

use super::filter::Exchange;
use super::request_id::{self, RequestIdRules, TraceReason, X_REQUEST_ID};
use crate::format::Context;
use crate::observe::node;
use crate::observe::trace::context::{Extracted, SpanContext, extract, inject};
use crate::observe::trace::span::{Kind, Span, Tag};
use crate::observe::trace::{CustomTag, TagSource, Tracer, submit};
use crate::request::RequestHead;
use crate::stream::Stream;

const DECORATOR: HeaderName = HeaderName::from_static("x-envoy-decorator-operation");
const CLIENT_TRACE_ID: HeaderName = HeaderName::from_static("x-client-trace-id");
const FORCE_TRACE: HeaderName = HeaderName::from_static("x-envoy-force-trace");

/// The decision for this request, until its span starts.
struct Decision(bool);

/// A span under way.
struct Active {
    context: SpanContext,
    name: String,
    /// Of the request; those of its end come later.
    tags: Vec<Tag>,
    /// The span of the call upstream, where it has one of its own.
    upstream: Option<SpanContext>,
}

/// Decides whether the request is traced, and packs the reason into its id.
pub fn decide(exchange: &Exchange, head: &mut RequestHead) {
    let Some(tracer) = &exchange.connection_manager.tracer else { return };
    let reason = reason(tracer, &exchange.connection_manager.request_id, head);
    let stats = &tracer.stats;
    let traced = if exchange.stream.health_check.get() {
        stats.health_check.inc();
        false
    } else {
        match reason {
            TraceReason::NotTraced => stats.not_traceable.inc(),
            TraceReason::Sampled => stats.random_sampling.inc(),
            TraceReason::ServiceForced => stats.service_forced.inc(),
            TraceReason::ClientForced => stats.client_enabled.inc(),
        }
        reason != TraceReason::NotTraced
    };
    exchange.put(Decision(traced));
}

fn reason(tracer: &Tracer, rules: &RequestIdRules, head: &mut RequestHead) -> TraceReason {
    if !rules.use_for_sampling {
        return TraceReason::Sampled;
    }
    let id = head.headers.get(X_REQUEST_ID).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let (Some(before), Some(number)) = (request_id::trace_reason(&id), request_id::sample_value(&id)) else {
        return TraceReason::NotTraced;
    };
    let number = number % 10_000;
    let mut reason = before;
    if reason == TraceReason::NotTraced {
        if head.headers.contains_key(CLIENT_TRACE_ID) && fastrand::u64(..10_000) < tracer.client_sampling {
            reason = TraceReason::ClientForced;
        } else if head.headers.contains_key(FORCE_TRACE) {
            reason = TraceReason::ServiceForced;
        } else if number < tracer.random_sampling {
            reason = TraceReason::Sampled;
        }
    }
    if number >= tracer.overall_sampling {
        reason = TraceReason::NotTraced;
    }
    if reason != before
        && rules.pack_trace_reason
        && let Some(id) = request_id::with_trace_reason(&id, reason)
    {
        head.set("x-request-id", &id);
    }
    reason
}

/// Starts the span of a request whose route is known, and tells upstream of it.
pub fn start(exchange: &Exchange, head: &mut RequestHead) {
    let Some(tracer) = &exchange.connection_manager.tracer else { return };
    let Some(Decision(traced)) = exchange.take() else { return };
    let operation = operation(exchange, tracer, head);
    let Some((context, single)) = place(tracer, &head.headers, traced) else { return };
    let upstream = tracer.spawn_upstream_span.then(|| context.child());
    inject(&mut head.headers, upstream.as_ref().unwrap_or(&context), single, tracer.w3c);
    *exchange.stream.trace_id.borrow_mut() = Some(context.trace_hex());
    if context.sampled {
        let name = operation.unwrap_or_else(|| head.authority_str().to_owned());
        exchange.put(Active { context, name, tags: request_tags(exchange, tracer, head), upstream });
    }
}

/// Does the span describe the caller's end of the call?
fn is_client(tracer: &Tracer) -> bool {
    tracer.outbound && !tracer.spawn_upstream_span
}

/// The span's name where the route or the caller gives one; the caller's proxy tells its own to the called one's.
fn operation(exchange: &Exchange, tracer: &Tracer, head: &mut RequestHead) -> Option<String> {
    let decorated = exchange.route().and_then(|choice| choice.route.operation.clone());
    if tracer.outbound {
        if let Some(operation) = &decorated {
            head.set("x-envoy-decorator-operation", operation);
        }
        return decorated;
    }
    let told = head.headers.remove(DECORATOR).and_then(|v| v.to_str().ok().map(str::to_owned));
    told.filter(|told| !told.is_empty()).or(decorated)
}

/// Where the span stands; `None` if the caller's context can't be read.
fn place(tracer: &Tracer, headers: &HeaderMap, traced: bool) -> Option<(SpanContext, bool)> {
    match extract(headers, tracer.w3c) {
        Extracted::Invalid => None,
        Extracted::Nothing { sampled, single } => {
            Some((SpanContext::root(tracer.long_trace_ids, sampled.unwrap_or(traced)), single))
        }
        Extracted::Span { context, sampled, single } => {
            let context = SpanContext { sampled: sampled.unwrap_or(traced), ..context };
            let shared = tracer.shared_span_context && !is_client(tracer);
            Some((if shared { context } else { context.child() }, single))
        }
    }
}

fn text(value: &str) -> String {
    if value.is_empty() { "-".to_owned() } else { value.to_owned() }
}

fn request_tags(exchange: &Exchange, tracer: &Tracer, head: &RequestHead) -> Vec<Tag> {
    let header = |name: &str| head.header(name).map(|v| String::from_utf8_lossy(&v).into_owned());
    let node = node::get();
    let stream = &exchange.stream;
    let path: String = head.path_and_query().chars().take(tracer.max_path).collect();
    let scheme = header("x-forwarded-proto").unwrap_or_else(|| head.scheme.as_str().to_owned());
    let peer = &stream.connection.direct_remote;
    let mut tags: Vec<Tag> = Vec::with_capacity(24);
    let mut put = |name: &'static str, value: String| tags.push((Cow::Borrowed(name), value));
    put("component", "proxy".to_owned());
    put("node_id", node.id.clone());
    put("zone", node.zone.clone());
    put("guid:x-request-id", header("x-request-id").unwrap_or_default());
    put("http.url", format!("{scheme}://{}{path}", head.authority_str()));
    put("http.method", head.method.as_str().to_owned());
    put("downstream_cluster", text(&header("x-envoy-downstream-service-cluster").unwrap_or_default()));
    put("user_agent", text(&header("user-agent").unwrap_or_default()));
    put("http.protocol", head.protocol.as_str().to_owned());
    put("peer.address", peer.ip().map_or_else(|| peer.to_string(), |ip| ip.to_string()));
    put("guid:x-client-trace-id", header("x-client-trace-id").unwrap_or_default());
    if head.is_grpc() {
        put("grpc.path", head.path_only().to_owned());
        put("grpc.authority", head.authority_str().to_owned());
        put("grpc.timeout", header("grpc-timeout").unwrap_or_default());
    }
    tags
}

/// Ends the request's span, if it has one.
pub fn finish(exchange: &Exchange, context: &Context<'_>) {
    let Some(tracer) = &exchange.connection_manager.tracer else { return };
    let Some(Active { context: place, name, mut tags, upstream }) = exchange.take() else { return };
    let stream = &exchange.stream;
    let ended = stream.end.get().unwrap_or_else(Instant::now);
    tags.push((Cow::Borrowed("request_size"), stream.bytes_received.get().to_string()));
    tags.extend(common_tags(exchange, context));
    tags.extend(tracer.custom_tags.iter().filter_map(|tag| custom(tag, context)));
    let kind = if is_client(tracer) { Kind::Client } else { Kind::Server };
    if let Some(context) = upstream.filter(|_| stream.upstream.host.borrow().is_some()) {
        submit(upstream_span(exchange, tracer, context, ended));
    }
    submit(Span {
        collector: tracer.collector.clone(),
        context: place,
        kind,
        name,
        start: stream.start_time,
        duration: ended.saturating_duration_since(stream.start),
        tags,
        shared: tracer.shared_span_context,
    });
}

/// The call upstream as a span of its own. Source: `Tracing.spawn_upstream_span`.
fn upstream_span(exchange: &Exchange, tracer: &Tracer, context: SpanContext, ended: Instant) -> Span {
    let stream = &exchange.stream;
    let began = stream.upstream.first_byte_sent.get().unwrap_or(stream.start);
    let ended = stream.upstream.last_byte_received.get().unwrap_or(ended);
    let address = stream.upstream.host.borrow().as_ref().map(ToString::to_string).unwrap_or_default();
    let mut tags: Vec<Tag> = vec![
        (Cow::Borrowed("component"), "proxy".to_owned()),
        (Cow::Borrowed("upstream_address"), address.clone()),
        (Cow::Borrowed("peer.address"), address),
        (Cow::Borrowed("http.protocol"), stream.upstream.protocol.get().map_or("-", |p| p.as_str()).to_owned()),
    ];
    tags.extend(common_tags(exchange, &Context::of(stream)));
    Span {
        collector: tracer.collector.clone(),
        context,
        kind: Kind::Client,
        name: format!("router {} egress", cluster_names(exchange).0),
        start: stream.start_time + began.saturating_duration_since(stream.start),
        duration: ended.saturating_duration_since(began),
        tags,
        shared: false,
    }
}

/// The cluster's name in metrics, and its own.
fn cluster_names(exchange: &Exchange) -> (String, String) {
    let name = exchange.stream.upstream.cluster.borrow().as_deref().unwrap_or_default().to_owned();
    let entry = exchange.snapshot.cluster(&name);
    (entry.map_or_else(|| name.clone(), |c| c.cluster.stat_name.clone()), name)
}

fn common_tags(exchange: &Exchange, context: &Context<'_>) -> Vec<Tag> {
    let stream: &Stream = &exchange.stream;
    let code = stream.response_code.get().unwrap_or(0);
    let mut tags: Vec<Tag> = Vec::with_capacity(12);
    let mut put = |name: &'static str, value: String| tags.push((Cow::Borrowed(name), value));
    if stream.upstream.host.borrow().is_some() {
        let (observed, own) = cluster_names(exchange);
        put("upstream_cluster", observed);
        put("upstream_cluster.name", own);
    }
    put("http.status_code", code.to_string());
    put("response_size", stream.bytes_sent.get().to_string());
    put("response_flags", text(&stream.response_flags.get().short()));
    let header = |name: &str| {
        let headers = [context.trailers, context.response];
        headers.iter().flatten().find_map(|h| h.get(name)?.to_str().ok().map(str::to_owned))
    };
    let grpc = header("grpc-status");
    let failed = code == 0 || code >= 500 || grpc.as_deref().is_some_and(|status| status != "0");
    put("grpc.status_code", grpc.unwrap_or_default());
    put("grpc.message", header("grpc-message").unwrap_or_default());
    if failed {
        put("error", "true".to_owned());
    }
    tags
}

fn custom(tag: &CustomTag, context: &Context<'_>) -> Option<Tag> {
    let value = match &tag.source {
        TagSource::Literal(value) => Some(value.clone()),
        TagSource::RequestHeader(name) => {
            context.request.and_then(|head| head.header(name)).map(|v| String::from_utf8_lossy(&v).into_owned())
        }
        TagSource::RequestMetadata(path) => at(&context.stream.dynamic_metadata.borrow(), path),
        TagSource::HostMetadata(path) => {
            context.stream.upstream.host_metadata.borrow().as_ref().and_then(|metadata| at(metadata, path))
        }
        TagSource::Value(format) => Some(format.to_text_or_empty(context)),
    };
    let value = value.unwrap_or_else(|| tag.default.clone());
    (!value.is_empty()).then(|| (Cow::Owned(tag.tag.clone()), value))
}

fn at(metadata: &crate::stream::Metadata, path: &[String]) -> Option<String> {
    let (namespace, keys) = path.split_first()?;
    let value = keys.iter().try_fold(metadata.get(namespace)?, |value, key| value.get(key))?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}
