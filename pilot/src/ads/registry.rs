//! Which proxies are connected, and how far each is; what `/debug/syncz` shows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// The connected proxies.
#[derive(Debug, Default)]
pub struct Registry {
    next: AtomicU64,
    streams: Mutex<BTreeMap<u64, StreamStatus>>,
}

/// One connected proxy.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StreamStatus {
    /// The proxy's node id.
    pub node: String,
    /// `NAME.NAMESPACE` of its workload.
    pub proxy: String,
    /// The service account that it has proven to be.
    pub identity: Option<String>,
    /// `sotw` or `delta`.
    pub protocol: &'static str,
    /// By short type name: `CDS`, …
    pub types: BTreeMap<&'static str, TypeStatus>,
}

/// How far a proxy is with one type.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TypeStatus {
    /// `SYNCED`, `STALE` (sent, no answer yet), or `REFUSED`.
    pub status: &'static str,
    /// What was sent last.
    pub nonce: String,
    /// Why it was refused.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl Registry {
    /// All connected proxies.
    pub fn all(&self) -> Vec<StreamStatus> {
        self.streams.lock().values().cloned().collect()
    }

    pub(super) fn enter(&self, protocol: &'static str) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.streams.lock().insert(id, StreamStatus { protocol, ..StreamStatus::default() });
        id
    }

    pub(super) fn leave(&self, id: u64) {
        self.streams.lock().remove(&id);
    }

    pub(super) fn update(&self, id: u64, change: impl FnOnce(&mut StreamStatus)) {
        if let Some(status) = self.streams.lock().get_mut(&id) {
            change(status);
        }
    }
}
