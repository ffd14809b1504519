//! `GRPCRoute`.

use serde::{Deserialize, Serialize};

use super::{BackendRef, HttpFilter, MatchType, NamedMatch, ParentRef};
use crate::meta::ObjectMeta;

/// Routes of gRPC calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrpcRoute {
    /// In the Service's namespace, or in that of its callers.
    pub metadata: ObjectMeta,
    /// The routes.
    #[serde(default)]
    pub spec: GrpcRouteSpec,
}

/// Source: Gateway API `GRPCRouteSpec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcRouteSpec {
    /// What it is attached to.
    pub parent_refs: Vec<ParentRef>,
    /// The rules.
    pub rules: Vec<GrpcRule>,
}

/// Source: Gateway API `GRPCRouteRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcRule {
    /// A name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Any of these; empty: every call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<GrpcMatch>,
    /// What happens besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpFilter>,
    /// Where they go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
}

/// Source: Gateway API `GRPCRouteMatch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GrpcMatch {
    /// Any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<GrpcMethod>,
    /// All of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<NamedMatch>,
}

/// Source: Gateway API `GRPCMethodMatch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GrpcMethod {
    /// How both are compared.
    #[serde(rename = "type")]
    pub type_: MatchType,
    /// The full name of the gRPC service; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Its method; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}
