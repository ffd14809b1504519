//! `TCPRoute` of Gateway API, which is not SMI's kind of that name.

use serde::{Deserialize, Serialize};

use super::{BackendRef, ParentRef};
use crate::meta::ObjectMeta;

/// Routes of TCP connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpRoute {
    /// In the Service's namespace, or in that of its callers.
    pub metadata: ObjectMeta,
    /// The routes.
    #[serde(default)]
    pub spec: TcpRouteSpec,
}

/// Source: Gateway API `TCPRouteSpec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentRef>,
    /// Only the first can be reached.
    pub rules: Vec<TcpRule>,
}

/// Source: Gateway API `TCPRouteRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRule {
    /// A name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where connections go, by weight.
    pub backend_refs: Vec<BackendRef>,
}
