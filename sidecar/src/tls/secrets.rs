//! Named certificates, keys and validation rules that arrive later and change: SDS secrets and the
//! static ones of a bootstrap. Who asks for a secret holds its slot; a new value changes the next
//! handshake and drops no connection.
//!
//! Fetching is `discovery`'s work: it asks [`SecretStore::wanted`] what to subscribe to and writes
//! what it got into the slot.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::certificate::Identity;
use super::verify::Validation;

/// A secret's value. Keys are inside [`Identity`], whose `Debug` doesn't show them.
#[derive(Clone, Debug)]
pub enum Secret {
    Certificate(Arc<Identity>),
    Validation(Arc<Validation>),
    /// Keys for session tickets, newest first.
    TicketKeys(Arc<Vec<[u8; 80]>>),
    Generic(Arc<Vec<u8>>),
}

/// Where a secret comes from: its name, and the encoded `ConfigSource` (`None`: the bootstrap's own
/// `static_resources.secrets`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretRef {
    pub name: String,
    pub source: Option<Vec<u8>>,
}

/// The place where one secret's current value is.
#[derive(Debug)]
pub struct SecretSlot {
    pub reference: SecretRef,
    value: ArcSwapOption<Secret>,
    version: AtomicU64,
}

impl SecretSlot {
    fn new(reference: SecretRef) -> Self {
        SecretSlot { reference, value: ArcSwapOption::empty(), version: AtomicU64::new(0) }
    }

    /// A slot that nobody else can write to.
    pub fn fixed(name: &str, secret: Secret) -> Arc<Self> {
        let slot = SecretSlot::new(SecretRef { name: name.to_owned(), source: None });
        slot.set(secret);
        Arc::new(slot)
    }

    pub fn get(&self) -> Option<Arc<Secret>> {
        self.value.load_full()
    }

    /// Counts up with every new value; 0 as long as there is none.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub fn set(&self, secret: Secret) {
        self.value.store(Some(Arc::new(secret)));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Takes the value away (the server removed the secret): new handshakes fail.
    pub fn clear(&self) {
        self.value.store(None);
        self.version.fetch_add(1, Ordering::Release);
    }

    pub fn certificate(&self) -> Option<Arc<Identity>> {
        match self.get()?.as_ref() {
            Secret::Certificate(identity) => Some(identity.clone()),
            _ => None,
        }
    }

    pub fn validation(&self) -> Option<Arc<Validation>> {
        match self.get()?.as_ref() {
            Secret::Validation(validation) => Some(validation.clone()),
            _ => None,
        }
    }
}

/// All secrets of the process that somebody uses.
#[derive(Debug, Default)]
pub struct SecretStore {
    slots: Mutex<HashMap<SecretRef, Weak<SecretSlot>>>,
    statics: Mutex<HashMap<String, Arc<SecretSlot>>>,
}

impl SecretStore {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds one of the bootstrap's own secrets.
    pub fn add_static(&self, name: &str, secret: Secret) {
        self.statics.lock().insert(name.to_owned(), SecretSlot::fixed(name, secret));
    }

    /// The slot of a secret; made if nobody asked for it before. `None`: a static secret that the
    /// bootstrap doesn't have.
    pub fn slot(&self, reference: SecretRef) -> Option<Arc<SecretSlot>> {
        if reference.source.is_none() {
            return self.statics.lock().get(&reference.name).cloned();
        }
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(&reference).and_then(Weak::upgrade) {
            return Some(slot);
        }
        let slot = Arc::new(SecretSlot::new(reference.clone()));
        slots.insert(reference, Arc::downgrade(&slot));
        Some(slot)
    }

    /// The secrets that are in use and must be fetched.
    pub fn wanted(&self) -> Vec<Arc<SecretSlot>> {
        let mut slots = self.slots.lock();
        slots.retain(|_, slot| slot.strong_count() > 0);
        slots.values().filter_map(Weak::upgrade).collect()
    }

    pub fn statics(&self) -> Vec<Arc<SecretSlot>> {
        self.statics.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_shared_and_forgotten() {
        let store = SecretStore::new();
        let reference = SecretRef { name: "default".into(), source: Some(vec![1]) };
        let slot = store.slot(reference.clone()).unwrap();
        assert!(Arc::ptr_eq(&slot, &store.slot(reference.clone()).unwrap()));
        assert_eq!((slot.version(), store.wanted().len()), (0, 1));
        slot.set(Secret::Generic(Arc::new(vec![])));
        assert_eq!(slot.version(), 1);
        drop(slot);
        assert!(store.wanted().is_empty());
        assert!(store.slot(SecretRef { name: "x".into(), source: None }).is_none());
    }
}
