//! Listeners: LDS, their warming (routes and secrets), their sockets, and their going.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use tracing::{info, warn};
use xds::type_url;

use super::config::same;
use super::routes::{self, Routes};
use super::secrets::Secrets;
use super::sources::Sources;
use super::stats::ChangeStats;
use super::view::{Resources, Shown};
use super::{Awaited, Wanted, verdict};
use crate::discovery::{Change, Verdict};
use crate::http::RouteSource;
use crate::listener::Listener;
use crate::observe::stats::Scope;
use crate::tls::{SecretSlot, SecretStore};
use crate::worker::{Update, WorkerHandle};

struct State {
    listener: Arc<Listener>,
    encoded: Vec<u8>,
    version: String,
    updated: SystemTime,
}

impl State {
    fn new(listener: Arc<Listener>, encoded: Vec<u8>, version: String) -> Self {
        State { listener, encoded, version, updated: SystemTime::now() }
    }

    fn shown(&self) -> Shown {
        Shown {
            name: self.listener.name.clone(),
            encoded: self.encoded.clone(),
            version: self.version.clone(),
            updated: self.updated,
        }
    }
}

#[derive(Default)]
struct Slot {
    /// What the workers accept on.
    active: Option<State>,
    /// Complete, but not given to the workers yet.
    ready: Option<State>,
    warming: Option<State>,
    fixed: bool,
}

pub struct Listeners {
    slots: BTreeMap<String, Slot>,
    /// Active listeners that are to stop.
    gone: Vec<Arc<Listener>>,
    stats: ChangeStats,
}

impl Listeners {
    pub fn new(fixed: Vec<Arc<Listener>>) -> Self {
        let stats = ChangeStats::listeners();
        stats.added.add(fixed.len() as u64);
        let slots = fixed.into_iter().map(|listener| {
            let name = listener.name.clone();
            let warming = Some(State::new(listener, Vec::new(), String::new()));
            (name, Slot { warming, fixed: true, ..Slot::default() })
        });
        Listeners { slots: slots.collect(), gone: Vec::new(), stats }
    }

    pub fn is_warming(&self) -> bool {
        self.slots.values().any(|slot| slot.warming.is_some())
    }

    pub fn update(&mut self, change: &Change, store: &SecretStore, known: &dyn Fn(&str) -> bool) -> Verdict {
        if change.full {
            let kept = |name: &String| change.resources.iter().any(|r| r.name == *name);
            let gone: Vec<_> = self.slots.keys().filter(|name| !kept(name)).cloned().collect();
            gone.iter().for_each(|name| self.remove(name));
        }
        change.removed.iter().for_each(|name| self.remove(name));
        let mut failures = Vec::new();
        for resource in &change.resources {
            let slot = self.slots.get(&resource.name);
            if slot.is_some_and(|slot| slot.fixed) {
                continue;
            }
            let latest = slot.and_then(|s| s.warming.as_ref().or(s.ready.as_ref()).or(s.active.as_ref()));
            if latest.is_some_and(|state| same(&change.type_url, &state.encoded, &resource.resource.value)) {
                continue;
            }
            match super::config::listener(resource, store, known) {
                Err(error) => failures.push((resource.name.clone(), error.to_string())),
                Ok(listener) => {
                    if latest.is_some() {
                        self.stats.modified.inc()
                    } else {
                        self.stats.added.inc()
                    }
                    let slot = self.slots.entry(resource.name.clone()).or_default();
                    let encoded = resource.resource.value.clone();
                    slot.warming = Some(State::new(Arc::new(listener), encoded, resource.version.clone()));
                }
            }
        }
        verdict("listener", failures)
    }

    fn remove(&mut self, name: &str) {
        if self.slots.get(name).is_some_and(|slot| !slot.fixed) {
            let slot = self.slots.remove(name);
            self.stats.removed.inc();
            self.gone.extend(slot.and_then(|slot| slot.active).map(|state| state.listener));
        }
    }

    /// Those that came by LDS.
    pub fn shown(&self) -> Resources {
        let mut shown = Resources::default();
        for slot in self.slots.values().filter(|slot| !slot.fixed) {
            shown.active.extend(slot.active.iter().map(State::shown));
            shown.warming.extend(slot.warming.iter().chain(&slot.ready).map(State::shown));
        }
        shown
    }

    /// All that accept.
    pub fn serving(&self) -> Vec<Arc<Listener>> {
        self.slots.values().filter_map(|slot| slot.active.as_ref()).map(|state| state.listener.clone()).collect()
    }

    /// What their TLS contexts use.
    pub fn certificates(&self) -> impl Iterator<Item = Arc<SecretSlot>> {
        let active = self.slots.values().filter_map(|slot| slot.active.as_ref());
        active.flat_map(|state| state.listener.all_secrets())
    }

    /// Accepting ends; connections are told to go.
    pub fn drain(&self, workers: &[WorkerHandle], inbound_only: bool) {
        let chosen = |listener: &&Arc<Listener>| !inbound_only || listener.managers().any(|manager| manager.inbound);
        for listener in self.serving().iter().filter(chosen) {
            info!(listener = listener.name, "drained");
            workers.iter().for_each(|w| w.send(Update::Unlisten { name: listener.name.clone() }));
        }
    }

    /// The route tables that RDS must give.
    pub fn routes_wanted(&self) -> Vec<Wanted> {
        let states = self.slots.values().flat_map(|s| s.active.iter().chain(&s.ready).chain(&s.warming));
        states.flat_map(|state| routes_of(&state.listener)).collect()
    }

    /// Moves listeners whose needs have come to those that wait for the workers.
    pub fn warm(&mut self, sources: &mut Sources, routes: &Routes, over: &dyn Fn(&Awaited) -> bool, secrets: &Secrets) {
        for slot in self.slots.values_mut() {
            let Some(state) = slot.warming.take() else { continue };
            let routed = routes_of(&state.listener).iter().all(|wanted| {
                routes.has(sources, &wanted.source, &wanted.name)
                    || routes::key(sources, &wanted.source, &wanted.name)
                        .is_none_or(|(id, name)| over(&(id, type_url::ROUTE_CONFIGURATION, name)))
            });
            if routed && secrets.ready(&state.listener.secrets(), sources, over) {
                slot.ready = Some(state);
            } else {
                slot.warming = Some(state);
            }
        }
    }

    /// Gives the workers what is ready and takes away what is gone.
    ///
    /// # Errors
    /// An address of the bootstrap can't be bound; one of LDS is only reported.
    pub fn settle(&mut self, workers: &[WorkerHandle]) -> anyhow::Result<()> {
        for gone in self.gone.drain(..) {
            info!(listener = gone.name, "gone");
            workers.iter().for_each(|w| w.send(Update::Unlisten { name: gone.name.clone() }));
        }
        self.stats.warming.set(self.slots.values().filter(|s| s.warming.is_some()).count() as u64);
        let mut bound: Vec<SocketAddr> =
            self.slots.values().filter_map(|s| s.active.as_ref()).flat_map(|s| s.listener.addresses()).collect();
        for slot in self.slots.values_mut() {
            let Some(state) = slot.ready.take() else { continue };
            let same_address = |before: &State| before.listener.addresses().eq(state.listener.addresses());
            if slot.active.as_ref().is_some_and(same_address) {
                workers.iter().for_each(|w| w.send(Update::Replace { listener: state.listener.clone() }));
                slot.active = Some(state);
                continue;
            }
            if let Some(before) = slot.active.take() {
                workers.iter().for_each(|w| w.send(Update::Unlisten { name: before.listener.name.clone() }));
            }
            match listen(&state.listener, workers, &bound) {
                Ok(()) => {
                    bound.extend(state.listener.addresses());
                    slot.active = Some(state);
                }
                Err(error) if slot.fixed => return Err(error),
                Err(error) => warn!("{error:#}"),
            }
        }
        self.stats.active.set(self.slots.values().filter(|s| s.active.is_some()).count() as u64);
        Ok(())
    }
}

/// Binds one socket for each worker. All share the port, so an address that another listener has is refused here.
fn listen(listener: &Arc<Listener>, workers: &[WorkerHandle], bound: &[SocketAddr]) -> anyhow::Result<()> {
    let what = || format!("cannot bind '{}': listener '{}'", listener.address, listener.name);
    if !listener.binds {
        workers.iter().for_each(|w| w.send(Update::Listen { listener: listener.clone(), sockets: Vec::new() }));
        return Ok(());
    }
    if listener.addresses().any(|address| address.port() != 0 && bound.contains(&address)) {
        anyhow::bail!("{}: address is already in use by another listener", what());
    }
    let sockets = workers.iter().map(|_| listener.bind()).collect::<std::io::Result<Vec<_>>>().with_context(what)?;
    for (worker, sockets) in workers.iter().zip(sockets) {
        worker.send(Update::Listen { listener: listener.clone(), sockets });
    }
    info!(listener = listener.name, address = %listener.address, "listening");
    Ok(())
}

fn routes_of(listener: &Listener) -> Vec<Wanted> {
    let discovered = listener.managers().filter_map(|manager| match &manager.routes {
        RouteSource::Inline(_) => None,
        RouteSource::Discovered { name, source } => Some(Wanted {
            source: source.to_vec(),
            type_url: type_url::ROUTE_CONFIGURATION,
            name: name.to_string(),
            scope: Scope::http(&manager.stat_prefix).child("rds").child(name),
        }),
    });
    discovered.collect()
}
