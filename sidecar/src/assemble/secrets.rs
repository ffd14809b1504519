//! Secrets that come by SDS: written into the slots of those who use them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use xds::type_url;

use super::config::encoded_source;
use super::sources::{SourceId, Sources};
use super::view::Shown;
use super::{Awaited, verdict};
use crate::discovery::{Change, Verdict};
use crate::tls::{Secret, SecretSlot, SecretStore};

#[derive(Default)]
pub struct Secrets {
    /// What came, with the number of its change: a slot made later is filled from here.
    values: HashMap<(SourceId, String), (Secret, Shown, u64)>,
    /// The change that each slot holds.
    filled: HashMap<(SourceId, String), (std::sync::Weak<SecretSlot>, u64)>,
    changes: u64,
}

impl Secrets {
    pub fn update(&mut self, source: SourceId, change: &Change) -> Verdict {
        let mut failures = Vec::new();
        for resource in &change.resources {
            let key = (source, resource.name.clone());
            // Files that a secret names may have changed under the same names: it is read again all the same.
            match super::config::secret(resource) {
                Err(error) => failures.push((resource.name.clone(), error.to_string())),
                Ok(secret) => {
                    self.changes += 1;
                    let shown = Shown {
                        name: resource.name.clone(),
                        encoded: resource.resource.value.clone(),
                        version: resource.version.clone(),
                        updated: SystemTime::now(),
                    };
                    self.values.insert(key, (secret, shown, self.changes));
                }
            }
        }
        for name in &change.removed {
            self.values.remove(&(source, name.clone()));
        }
        verdict("secret", failures)
    }

    pub fn shown(&self) -> Vec<Shown> {
        self.values.values().map(|(_, shown, _)| shown.clone()).collect()
    }

    /// Brings the slots up to date.
    pub fn fill(&mut self, store: &SecretStore, sources: &mut Sources) {
        for slot in store.wanted() {
            let Some(key) = key(&slot, sources) else { continue };
            let Some((secret, _, change)) = self.values.get(&key) else { continue };
            let held = self.filled.get(&key);
            let current = held
                .is_some_and(|(held, at)| at == change && held.upgrade().is_some_and(|held| Arc::ptr_eq(&held, &slot)));
            if !current {
                slot.set(secret.clone());
                self.filled.insert(key, (Arc::downgrade(&slot), *change));
            }
        }
    }

    /// Have all these come, or is their time over?
    pub fn ready(&self, slots: &[Arc<SecretSlot>], sources: &mut Sources, over: &dyn Fn(&Awaited) -> bool) -> bool {
        slots.iter().all(|slot| {
            slot.get().is_some() || key(slot, sources).is_none_or(|(id, name)| over(&(id, type_url::SECRET, name)))
        })
    }
}

fn key(slot: &SecretSlot, sources: &mut Sources) -> Option<(SourceId, String)> {
    let subscription = encoded_source(slot.reference.source.as_deref()?).ok()?;
    Some((sources.id(&subscription.source, type_url::SECRET), slot.reference.name.clone()))
}
