//! Gateway API routes (gateway.networking.k8s.io), as far as they speak of a Service as parent. Fields that are not read here
//! are tolerated.
//!
//! Source: Gateway API v1.5, `HTTPRoute` v1, `GRPCRoute` v1, `TCPRoute` v1alpha2, and GEP-1426 for the mesh.

mod filter;
mod grpc_route;
mod http_route;
mod tcp_route;

pub use filter::{Fraction, Header, HeaderModifier, HttpFilter, Mirror, PathModifier, RequestRedirect, UrlRewrite};
pub use grpc_route::{GrpcMatch, GrpcMethod, GrpcRoute, GrpcRouteSpec, GrpcRule};
pub use http_route::{HttpMatch, HttpPath, HttpRoute, HttpRouteSpec, HttpRule, PathType, Retry, Timeouts};
pub use tcp_route::{TcpRoute, TcpRouteSpec, TcpRule};

use serde::{Deserialize, Serialize};

use crate::scalar::Port;

/// The group of the routes.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// What a route is attached to. Source: Gateway API `ParentReference`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Gateway API's own when absent; empty for a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `Gateway` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The route's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The parent's name.
    pub name: String,
    /// Only this port of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// Of a Service, the name of a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

impl ParentRef {
    /// Whether the parent is a Service, which makes the route the mesh's.
    #[must_use]
    pub fn is_service(&self) -> bool {
        self.kind.as_deref() == Some("Service") && self.group.as_deref() == Some("")
    }
}

/// Where requests go. Source: Gateway API `BackendRef`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// Empty when absent: Kubernetes' core.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// `Service` when absent, the only kind that is read here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The route's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The Service.
    pub name: String,
    /// Its port, required of a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// Relative to the others, 1 when absent.
    #[serde(default = "one")]
    pub weight: u32,
    /// What happens to the requests that go here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpFilter>,
}

fn one() -> u32 {
    1
}

/// How a name or value is compared. Source: Gateway API `HeaderMatchType` and `QueryParamMatchType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MatchType {
    /// It is the value.
    #[default]
    Exact,
    /// The value is a regular expression for all of it.
    RegularExpression,
}

/// A header or query parameter and its value. Source: Gateway API `HTTPHeaderMatch`, `HTTPQueryParamMatch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedMatch {
    /// How the value is compared.
    #[serde(rename = "type", default)]
    pub type_: MatchType,
    /// The name; a header's in any case.
    pub name: String,
    /// The value or regular expression.
    pub value: String,
}
