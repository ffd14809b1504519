//! `TrafficSplit` (split.smi-spec.io/v1alpha1 to v1alpha4): how the calls to a root service are shared among backends.

use serde::{Deserialize, Deserializer, Serialize};

use super::RouteKind;
use super::quantity::Quantity;
use crate::meta::ObjectMeta;

/// How the calls to a root service are shared among backends, in the form of v1alpha4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrafficSplit {
    /// In the namespace of the root and of all backends.
    pub metadata: ObjectMeta,
    /// What is split.
    pub spec: TrafficSplitSpec,
}

/// The fields of a [`TrafficSplit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// A service of the split's namespace.
    pub service: String,
    /// Relative to the others; 0 when absent.
    #[serde(default)]
    pub weight: u64,
}

/// An HTTPRouteGroup of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupRef {
    /// `HTTPRouteGroup`.
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

/// Reads v1alpha1, whose weights are quantities; the ratio stays, and the numbers too where all are whole.
///
/// # Errors
/// What the deserializer says.
pub(crate) fn v1alpha1<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TrafficSplit, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Split {
        metadata: ObjectMeta,
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Spec {
        service: String,
        backends: Vec<Share>,
        #[serde(default)]
        matches: Vec<GroupRef>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Share {
        service: String,
        #[serde(default)]
        weight: Quantity,
    }
    let Split { metadata, spec } = Split::deserialize(deserializer)?;
    let weights: Vec<Quantity> = spec.backends.iter().map(|b| b.weight).collect();
    let backends = spec.backends.into_iter().zip(Quantity::whole(&weights));
    let backends = backends.map(|(b, weight)| Backend { service: b.service, weight }).collect();
    Ok(TrafficSplit { metadata, spec: TrafficSplitSpec { service: spec.service, backends, matches: spec.matches } })
}
