//! A finished span and its Zipkin v2 form.
//! Source: Envoy's `JsonV2Serializer`; the Zipkin v2 API.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::context::SpanContext;
use super::exporter::Collector;
use crate::observe::node::Node;

/// Which end of a call a span describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Client,
    Server,
}

/// A name and its value.
pub type Tag = (Cow<'static, str>, String);

/// One span, ready to be sent.
#[derive(Debug)]
pub struct Span {
    pub collector: Arc<Collector>,
    pub context: SpanContext,
    pub kind: Kind,
    pub name: String,
    pub start: SystemTime,
    pub duration: Duration,
    pub tags: Vec<Tag>,
    /// Caller and called use one id.
    pub shared: bool,
}

fn micros(since: Duration) -> u64 {
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Span {
    /// The span as Zipkin's API v2 takes it.
    pub fn to_json(&self, node: &Node) -> Value {
        let (kind, last) = match self.kind {
            Kind::Client => ("CLIENT", "cr"),
            Kind::Server => ("SERVER", "ss"),
        };
        let start = self.start.duration_since(UNIX_EPOCH).unwrap_or_default();
        // Empty tags are left out, as Envoy leaves them.
        let tags: serde_json::Map<String, Value> = self
            .tags
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_string(), value.as_str().into()))
            .collect();
        let mut span = json!({
            "traceId": self.context.trace_hex(),
            "id": format!("{:016x}", self.context.span),
            "kind": kind,
            "name": self.name,
            "timestamp": micros(start),
            // Zipkin takes no span of no duration.
            "duration": micros(self.duration).max(1),
            "localEndpoint": endpoint(node),
            "annotations": [{"timestamp": micros(start + self.duration), "value": last}],
            "tags": tags,
        });
        if let Some(parent) = self.context.parent {
            span["parentId"] = format!("{parent:016x}").into();
        }
        if self.shared && self.kind == Kind::Server {
            span["shared"] = true.into();
        }
        span
    }
}

fn endpoint(node: &Node) -> Value {
    let mut endpoint = json!({"port": 0});
    if !node.cluster.is_empty() {
        endpoint["serviceName"] = node.cluster.as_str().into();
    }
    match node.address {
        Some(IpAddr::V4(ip)) => endpoint["ipv4"] = ip.to_string().into(),
        Some(IpAddr::V6(ip)) => endpoint["ipv6"] = ip.to_string().into(),
        None => {}
    }
    endpoint
}
