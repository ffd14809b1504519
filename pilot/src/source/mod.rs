//! The only way in: objects from a folder of manifests or from a Kubernetes API server, kept up to date.
//!
//! A source owns its watching. What it gives is a [`Watch`] of the latest [`Observed`] state, so that everything behind it is
//! the same for every source.

pub mod diagnostics;
pub mod files;
mod folder;
pub mod kubernetes;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Key, Kind, ObjectMeta, Objects, Problem};
use tokio::sync::watch;

/// All objects of a source at one moment, and what could not be read. Problems of meaning are found later, by the mesh.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every object that can be read, or its last good version.
    pub objects: Objects,
    /// What is wrong with single objects and files, located.
    pub problems: Vec<Problem>,
    /// Of what a cluster has and cannot be read: which object it is, and in what version.
    pub unread: BTreeMap<(Kind, Key), ObjectMeta>,
}

impl Observed {
    /// What the metadata of an object says, be it read or not. That of the last good version is not it.
    #[must_use]
    pub fn metadata(&self, kind: Kind, key: &Key) -> Option<ObjectMeta> {
        let unread = self.unread.get(&(kind, key.clone())).cloned();
        unread.or_else(|| Some(self.objects.get(kind, key)?.metadata().clone()))
    }
}

/// The latest state; it changes as often as the source sees a change.
pub type Watch = watch::Receiver<Arc<Observed>>;
