//! The descriptors of every message that a sidecar can be sent or can print.
//!
//! They cost some megabytes, so they are decoded when first asked for and freed when the last
//! holder lets go: hold a [`Schema`] for a load, a burst of updates or a page, not for ever.

mod facts;
mod rule;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prost_reflect::{DescriptorPool, MessageDescriptor};

pub(crate) use facts::{FieldFacts, MessageFacts};
pub(crate) use rule::{Bounds, Check, Rule};

/// Made by `descriptors/generate`, without comments.
static DESCRIPTORS: &[u8] = include_bytes!("../descriptors/set.bin");

static SHARED: Mutex<Weak<Schema>> = Mutex::new(Weak::new());

/// Message descriptors by name, and what their options say.
#[derive(Debug)]
pub struct Schema {
    pool: DescriptorPool,
    options: facts::Options,
    facts: Mutex<HashMap<String, Arc<MessageFacts>>>,
}

impl Schema {
    /// The one schema of the process; decoded anew (tens of milliseconds) if no one holds it.
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = shared.upgrade() {
            return schema;
        }
        let schema = Arc::new(Self::decode());
        *shared = Arc::downgrade(&schema);
        schema
    }

    fn decode() -> Self {
        // The set is part of the program, and a test decodes it.
        let pool = DescriptorPool::decode(DESCRIPTORS).expect("the descriptor set is whole");
        let options = facts::Options::find(&pool);
        Self { pool, options, facts: Mutex::default() }
    }

    /// The message of that full name, or `None` if the sidecar can never meet it.
    pub fn message(&self, full_name: &str) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(full_name)
    }

    /// The message that a type URL names.
    pub fn message_of(&self, type_url: &str) -> Option<MessageDescriptor> {
        self.message(crate::type_url::message_name(type_url))
    }

    /// Every message, in no certain order.
    pub fn messages(&self) -> impl Iterator<Item = MessageDescriptor> + '_ {
        self.pool.all_messages()
    }

    /// What the options of a message and its fields say; read once a message.
    pub(crate) fn facts(&self, message: &MessageDescriptor) -> Arc<MessageFacts> {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = facts.get(message.full_name()) {
            return known.clone();
        }
        let new = Arc::new(self.options.facts(message));
        facts.insert(message.full_name().to_owned(), new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_a_sidecar_meets() {
        let schema = Schema::shared();
        for name in [
            "envoy.config.bootstrap.v3.Bootstrap",
            "envoy.admin.v3.ConfigDump",
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "envoy.extensions.filters.http.lua.v3.Lua",
            "envoy.service.discovery.v3.DeltaDiscoveryResponse",
            "xds.type.v3.TypedStruct",
            "udpa.type.v1.TypedStruct",
            "stats.PluginConfig",
            "io.istio.http.peer_metadata.Config",
            "envoy.tcp.metadataexchange.config.MetadataExchange",
            "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
        ] {
            assert!(schema.message(name).is_some(), "{name}");
        }
        assert!(schema.message("no.such.Type").is_none());
    }

    #[test]
    fn is_freed_when_unused() {
        let schema = Arc::new(Schema::decode());
        let weak = Arc::downgrade(&schema);
        drop(schema);
        assert!(weak.upgrade().is_none());
    }
}
