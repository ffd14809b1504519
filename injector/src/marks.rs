//! The labels and annotations of a pod or namespace, by which it is decided who gets a sidecar.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::inject::texts;

/// The labels and annotations of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// What selectors see.
    pub labels: BTreeMap<String, String>,
    /// What they do not.
    pub annotations: BTreeMap<String, String>,
}

impl Marks {
    /// Those of an object's `metadata`.
    #[must_use]
    pub fn of(metadata: &Value) -> Self {
        Self { labels: texts(&metadata["labels"]), annotations: texts(&metadata["annotations"]) }
    }
}
