//! Names of objects, their metadata, and which of two is older.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::object::Kind;

/// The namespace of a namespaced object that names none, as kubectl has it.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What Kubernetes' `ObjectMeta` says, as far as a mesh reads it; other fields are tolerated.
///
/// Source: Kubernetes `meta/v1.ObjectMeta`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(with = "serde_json::Value")]
pub struct ObjectMeta {
    /// Required, unique by kind and namespace.
    pub name: String,
    /// Empty for cluster-wide kinds. A manifest of a namespaced kind that names none is in `default`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Labels, which selectors match.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// When the API server made the object. Manifests mostly have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Timestamp>,
    /// From when on the object is on its way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<Timestamp>,
    /// Counts changes of the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The API server's id of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Who made the object: of a pod, its ReplicaSet, StatefulSet or Job.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
}

impl ObjectMeta {
    /// The object's name and namespace.
    #[must_use]
    pub fn key(&self) -> Key {
        Key { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// `Less` when this object is the older one: by `creationTimestamp`, then namespace and name. Objects without a
    /// timestamp count as equally old, and as older than those with one (they stand for what was there before any cluster).
    #[must_use]
    pub fn age(&self, other: &Self) -> Ordering {
        self.creation_timestamp
            .cmp(&other.creation_timestamp)
            .then_with(|| self.namespace.cmp(&other.namespace))
            .then_with(|| self.name.cmp(&other.name))
    }
}

/// An owner of an object. Source: Kubernetes `meta/v1.OwnerReference`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// `ReplicaSet`, `StatefulSet`, …
    pub kind: String,
    /// The owner's name, in the same namespace.
    pub name: String,
    /// Whether it is the managing controller.
    pub controller: bool,
}

/// An instant as the API server writes it, RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub jiff::Timestamp);

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Self)
            .map_err(|_| serde::de::Error::custom(format!("bad time `{text}`: write it like 2026-01-31T12:00:00Z")))
    }
}

/// An object's namespace and name; the order of everything that is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Empty for cluster-wide kinds.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// Which object something is about. Printed `TrafficSplit shop/reviews`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ObjectRef {
    /// The kind as written; not always one that is read here.
    pub kind: String,
    /// Empty for cluster-wide kinds, or when unknown.
    pub namespace: String,
    /// Empty when unknown.
    pub name: String,
}

impl ObjectRef {
    /// The object of `kind` with `key`.
    #[must_use]
    pub fn new(kind: Kind, key: &Key) -> Self {
        Self { kind: kind.as_str().to_owned(), namespace: key.namespace.clone(), name: key.name.clone() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.namespace.as_str(), self.name.as_str()) {
            (_, "") => f.write_str(&self.kind),
            ("", name) => write!(f, "{} {name}", self.kind),
            (namespace, name) => write!(f, "{} {namespace}/{name}", self.kind),
        }
    }
}
