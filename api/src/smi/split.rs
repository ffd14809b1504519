//! `TrafficSplit` (split.smi-spec.io/v1alpha1 to v1alpha4): how the calls to a root service are shared among backends.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::RouteKind;
use super::quantity::Quantity;
use crate::meta::ObjectMeta;

/// How the calls to a root service are shared among backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrafficSplit {
    /// In the namespace of the root and of all backends.
    pub metadata: ObjectMeta,
    /// What is split.
    pub spec: TrafficSplitSpec,
}

/// The fields of a [`TrafficSplit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrafficSplitSpec {
    /// The root service, which callers name; its short name, or with namespace and domain.
    pub service: String,
    /// Who shares its calls.
    pub backends: Vec<Backend>,
    /// Which calls are split (those that any match of any group accepts); empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<GroupRef>,
}

/// A share of the root service's calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// A service of the split's namespace.
    pub service: String,
    /// Relative to the others; 0 when absent.
    #[serde(default)]
    pub weight: u64,
}

/// An HTTPRouteGroup of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupRef {
    /// `HTTPRouteGroup` when absent.
    #[serde(default = "http_route_group")]
    pub kind: RouteKind,
    /// Its name.
    pub name: String,
    /// Read and not used: the kind says enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_group: Option<String>,
}

fn http_route_group() -> RouteKind {
    RouteKind::HttpRouteGroup
}

/// How the calls to a root service are shared among backends.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitV1alpha1 {
    metadata: ObjectMeta,
    /// What is split.
    spec: SpecV1alpha1,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SpecV1alpha1 {
    /// The root service, which callers name; its short name, or with namespace and domain.
    service: String,
    /// Who shares its calls.
    backends: Vec<BackendV1alpha1>,
    /// Which calls are split (those that any match of any group accepts); empty: all.
    #[serde(default)]
    matches: Vec<GroupRef>,
}

/// A share of the root service's calls.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BackendV1alpha1 {
    /// A service of the split's namespace.
    service: String,
    /// Relative to the others, a quantity like `500m` or `2`; 0 when absent.
    #[serde(default)]
    weight: Quantity,
}

/// Reads v1alpha1, whose weights are quantities; the ratio stays, and the numbers too where all are whole.
///
/// # Errors
/// What the deserializer says.
pub(crate) fn v1alpha1<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TrafficSplit, D::Error> {
    let SplitV1alpha1 { metadata, spec } = SplitV1alpha1::deserialize(deserializer)?;
    let weights: Vec<Quantity> = spec.backends.iter().map(|b| b.weight).collect();
    let backends = spec.backends.into_iter().zip(Quantity::whole(&weights));
    let backends = backends.map(|(b, weight)| Backend { service: b.service, weight }).collect();
    Ok(TrafficSplit { metadata, spec: TrafficSplitSpec { service: spec.service, backends, matches: spec.matches } })
}
