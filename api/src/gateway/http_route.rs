//! `HTTPRoute`.

use serde::{Deserialize, Serialize};

use super::{BackendRef, HttpFilter, NamedMatch, ParentRef};
use crate::duration::GoDuration;
use crate::meta::ObjectMeta;

/// Routes of HTTP requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRoute {
    /// In the Service's namespace, or in that of its callers.
    pub metadata: ObjectMeta,
    /// The routes.
    #[serde(default)]
    pub spec: HttpRouteSpec,
}

/// Source: Gateway API `HTTPRouteSpec`. Hostnames have no meaning with a Service as parent and are not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentRef>,
    /// The rules.
    pub rules: Vec<HttpRule>,
}

/// Source: Gateway API `HTTPRouteRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRule {
    /// A name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Any of these; empty: every request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// What happens besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpFilter>,
    /// Where they go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
    /// Time limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// Source: Gateway API `HTTPRouteMatch`. All that is there must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// Every path when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<HttpPath>,
    /// All of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<NamedMatch>,
    /// All of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<NamedMatch>,
    /// Any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// Source: Gateway API `HTTPPathMatch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpPath {
    /// How the path is compared.
    #[serde(rename = "type")]
    pub type_: PathType,
    /// The path, prefix or regular expression.
    pub value: String,
}

impl Default for HttpPath {
    fn default() -> Self {
        Self { type_: PathType::default(), value: "/".to_owned() }
    }
}

/// Source: Gateway API `PathMatchType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PathType {
    /// It is the path.
    Exact,
    /// It is the path, or the path begins with it and a `/`.
    #[default]
    PathPrefix,
    /// It matches the whole path.
    RegularExpression,
}

/// Source: Gateway API `HTTPRouteTimeouts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// The whole request with its retries; zero: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<GoDuration>,
    /// One try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<GoDuration>,
}

/// Source: Gateway API `HTTPRouteRetry`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// Statuses that are tried again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<u16>,
    /// Tries after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The least time between tries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<GoDuration>,
}
