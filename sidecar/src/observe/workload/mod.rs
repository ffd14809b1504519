//! Which workload this proxy stands for, and which one another proxy says it stands for.

pub mod config;
pub mod labels;
pub mod series;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// A workload as mesh metrics name it; what is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    pub name: String,
    pub namespace: String,
    pub app: String,
    pub version: String,
    /// The cluster of machines it runs in.
    pub cluster: String,
    /// What metrics call it where that is not its app or its name, and its version likewise.
    pub canonical_service: String,
    pub canonical_revision: String,
}

impl Workload {
    /// Reads what an endpoint's metadata says: `name;namespace;app;version;cluster`.
    pub fn of_endpoint(text: &str) -> Self {
        let mut parts = text.split(';').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Workload {
            name: next(),
            namespace: next(),
            app: next(),
            version: next(),
            cluster: next(),
            ..Workload::default()
        }
    }

    /// The service as metrics call it; empty if nothing is known.
    pub fn service(&self) -> &str {
        first([&self.canonical_service, &self.app, &self.name])
    }

    /// The revision as metrics call it; empty if nothing is known.
    pub fn revision(&self) -> &str {
        let any = if self.name.is_empty() { "" } else { "latest" };
        first([&self.canonical_revision, &self.version, any])
    }
}

fn first(texts: [&str; 3]) -> &str {
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or("")
}

/// This proxy's workload, and how it says so to others.
#[derive(Clone, Debug, Default)]
pub struct Own {
    pub workload: Workload,
    /// The node's id (`x-envoy-peer-metadata-id`).
    pub id: String,
    /// The workload as a protobuf Struct in base64 (`x-envoy-peer-metadata`).
    pub encoded: String,
    /// All its labels; those that others may hear of are told by who speaks to them.
    pub labels: BTreeMap<String, String>,
}

/// The other side of a connection, as it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub workload: Workload,
    /// As filter state shows it in logs.
    pub shown: String,
}

/// Who the other side of a connection is, once that is settled; its bytes may be read on another thread.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<OnceLock<Option<Peer>>>);

impl Told {
    /// Only what comes first counts. `None`: it will not be known.
    pub fn settle(&self, peer: Option<Peer>) {
        let _ = self.0.set(peer);
    }

    pub fn is_settled(&self) -> bool {
        self.0.get().is_some()
    }

    pub fn peer(&self) -> Option<&Peer> {
        self.0.get()?.as_ref()
    }
}

static OWN: OnceLock<Own> = OnceLock::new();

/// Says which workload this is, once.
pub fn set_own(own: Own) {
    let _ = OWN.set(own);
}

pub fn own() -> &'static Own {
    OWN.get_or_init(Own::default)
}
