//! Which workload this proxy stands for, and which one another proxy says it stands for.

use std::sync::OnceLock;

/// A workload as mesh metrics name it; what is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    pub name: String,
    pub namespace: String,
    pub app: String,
    pub version: String,
    /// The cluster of machines it runs in.
    pub cluster: String,
}

impl Workload {
    /// Reads what an endpoint's metadata says: `name;namespace;app;version;cluster`.
    pub fn of_endpoint(text: &str) -> Self {
        let mut parts = text.split(';').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Workload { name: next(), namespace: next(), app: next(), version: next(), cluster: next() }
    }
}

/// This proxy's workload, and how it says so to others.
#[derive(Clone, Debug, Default)]
pub struct Own {
    pub workload: Workload,
    /// The node's id (`x-envoy-peer-metadata-id`).
    pub id: String,
    /// The workload as a protobuf Struct in base64 (`x-envoy-peer-metadata`).
    pub encoded: String,
}

static OWN: OnceLock<Own> = OnceLock::new();

/// Says which workload this is, once.
pub fn set_own(own: Own) {
    let _ = OWN.set(own);
}

pub fn own() -> &'static Own {
    OWN.get_or_init(Own::default)
}
