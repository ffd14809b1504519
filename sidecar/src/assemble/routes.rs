//! Route tables that come by RDS. A table replaces the one of its name at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::Awaited;
use super::config::encoded_source;
use super::config::same;
use super::listeners::Listeners;
use super::sources::{SourceId, Sources};
use super::view::Shown;
use crate::discovery::{Change, Verdict};
use crate::route::RouteTable;
use xds::type_url;

type Key = (SourceId, String);

struct State {
    encoded: Vec<u8>,
    version: String,
    updated: SystemTime,
    table: Arc<RouteTable>,
}

#[derive(Default)]
pub struct Routes {
    tables: HashMap<Key, State>,
    changed: bool,
    reloaded: Vec<Awaited>,
}

impl Routes {
    pub fn update(&mut self, source: SourceId, change: &Change, known: &dyn Fn(&str) -> bool) -> Verdict {
        let mut failures = Vec::new();
        for resource in &change.resources {
            let key = (source, resource.name.clone());
            if self
                .tables
                .get(&key)
                .is_some_and(|state| same(&change.type_url, &state.encoded, &resource.resource.value))
            {
                continue;
            }
            match super::config::route_table(resource, known) {
                Err(error) => failures.push(error.to_string()),
                Ok(table) => {
                    let state = State {
                        encoded: resource.resource.value.clone(),
                        version: resource.version.clone(),
                        updated: SystemTime::now(),
                        table: Arc::new(table),
                    };
                    self.tables.insert(key, state);
                    self.changed = true;
                    self.reloaded.push((source, type_url::ROUTE_CONFIGURATION, resource.name.clone()));
                }
            }
        }
        // A table stays until its listener goes: Envoy ignores the removal of a route configuration.
        if failures.is_empty() { Ok(()) } else { Err(failures.join(", ")) }
    }

    pub fn shown(&self) -> Vec<Shown> {
        let shown = self.tables.iter().map(|((_, name), state)| Shown {
            name: name.clone(),
            encoded: state.encoded.clone(),
            version: state.version.clone(),
            updated: state.updated,
        });
        shown.collect()
    }

    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Tables that were replaced since the last look.
    pub fn take_reloaded(&mut self) -> Vec<Awaited> {
        std::mem::take(&mut self.reloaded)
    }

    pub fn has(&self, sources: &mut Sources, source: &[u8], name: &str) -> bool {
        key(sources, source, name).is_some_and(|key| self.tables.contains_key(&key))
    }

    /// The tables by name, of those that listeners use.
    pub fn tables(&self, listeners: &Listeners) -> HashMap<Arc<str>, Arc<RouteTable>, foldhash::fast::RandomState> {
        let wanted = listeners.routes_wanted();
        let named = self.tables.iter().filter(|((_, name), _)| wanted.iter().any(|w| w.name == *name));
        named.map(|((_, name), state)| (Arc::from(name.as_str()), state.table.clone())).collect()
    }
}

/// Where a table is kept.
pub fn key(sources: &mut Sources, source: &[u8], name: &str) -> Option<Key> {
    let subscription = encoded_source(source).ok()?;
    Some((sources.id(&subscription.source, type_url::ROUTE_CONFIGURATION), name.to_owned()))
}
