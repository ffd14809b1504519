//! Clusters and their endpoints: CDS and EDS. A changed cluster serves once its endpoints and secrets
//! have come; the one of before serves until then.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tracing::debug;
use xds::type_url;

use super::config::encoded_source;
use super::secrets::Secrets;
use super::sources::{SourceId, Sources};
use super::stats::ChangeStats;
use super::{Awaited, Wanted, verdict};
use crate::cluster::{Cluster, Discovery, Health, Host, HostSet};
use crate::discovery::{Change, Verdict};
use crate::snapshot::ClusterEntry;
use crate::tls::SecretStore;

/// A compiled cluster with the endpoints that its own configuration names.
pub struct Made {
    pub cluster: Arc<Cluster>,
    pub endpoints: Vec<Arc<Host>>,
}

struct State {
    made: Made,
    /// The resource as it came, to see whether a later one differs.
    encoded: Vec<u8>,
    hosts: Arc<HostSet>,
}

#[derive(Default)]
struct Slot {
    active: Option<State>,
    warming: Option<State>,
    /// From the bootstrap: CDS can't change it.
    fixed: bool,
}

type Key = (SourceId, String);

pub struct Clusters {
    slots: BTreeMap<Arc<str>, Slot>,
    /// Endpoints as EDS gave them.
    assignments: HashMap<Key, Vec<Arc<Host>>>,
    /// Assignments that came since the last look.
    fresh: Vec<Key>,
    host_changes: Vec<(Arc<str>, Arc<HostSet>)>,
    removed: bool,
    workers: usize,
    stats: ChangeStats,
}

impl Clusters {
    pub fn new(fixed: Vec<Made>, workers: usize) -> Self {
        let slots = fixed.into_iter().map(|made| {
            let state = State { made, encoded: Vec::new(), hosts: Arc::default() };
            let slot = Slot { active: None, warming: Some(state), fixed: true };
            (slot.warming.as_ref().map(|s| s.made.cluster.name.clone()).unwrap_or_else(|| "".into()), slot)
        });
        Clusters {
            slots: slots.collect(),
            assignments: HashMap::new(),
            fresh: Vec::new(),
            host_changes: Vec::new(),
            removed: false,
            workers,
            stats: ChangeStats::clusters(),
        }
    }

    pub fn exists(&self, name: &str) -> bool {
        self.slots.contains_key(name)
    }

    pub fn is_warming(&self) -> bool {
        self.slots.values().any(|slot| slot.warming.is_some())
    }

    pub fn update(&mut self, change: &Change, store: &SecretStore) -> Verdict {
        if change.full {
            let kept = |name: &Arc<str>| change.resources.iter().any(|r| *r.name == **name);
            let gone: Vec<_> = self.slots.keys().filter(|name| !kept(name)).cloned().collect();
            gone.iter().for_each(|name| self.remove(name));
        }
        change.removed.iter().for_each(|name| self.remove(name));
        let mut failures = Vec::new();
        for resource in &change.resources {
            let slot = self.slots.get(resource.name.as_str());
            if slot.is_some_and(|slot| slot.fixed) {
                continue;
            }
            let latest = slot.and_then(|slot| slot.warming.as_ref().or(slot.active.as_ref()));
            if latest.is_some_and(|state| state.encoded == resource.resource.value) {
                continue;
            }
            match super::config::cluster(resource, store, self.workers) {
                Err(error) => failures.push((resource.name.clone(), error.to_string())),
                Ok((cluster, endpoints)) => {
                    let cluster = Arc::new(cluster);
                    if latest.is_some() {
                        self.stats.modified.inc()
                    } else {
                        self.stats.added.inc()
                    }
                    let slot = self.slots.entry(cluster.name.clone()).or_default();
                    let made = Made { cluster, endpoints };
                    let encoded = resource.resource.value.clone();
                    slot.warming = Some(State { made, encoded, hosts: Arc::default() });
                }
            }
        }
        verdict("cluster", failures)
    }

    fn remove(&mut self, name: &str) {
        if self.slots.get(name).is_some_and(|slot| !slot.fixed) {
            self.slots.remove(name);
            self.stats.removed.inc();
            self.removed = true;
        }
    }

    pub fn assign(&mut self, source: SourceId, change: &Change) -> Verdict {
        let mut failures = Vec::new();
        for resource in &change.resources {
            match super::config::assignment(resource) {
                Ok(hosts) => self.put_assignment((source, resource.name.clone()), hosts),
                Err(error) => failures.push((resource.name.clone(), error.to_string())),
            }
        }
        for name in &change.removed {
            self.put_assignment((source, name.clone()), Vec::new());
        }
        verdict("endpoint", failures)
    }

    fn put_assignment(&mut self, key: Key, hosts: Vec<Arc<Host>>) {
        self.fresh.push(key.clone());
        self.assignments.insert(key, hosts);
    }

    /// The endpoints that EDS must give.
    pub fn assignments_wanted(&self) -> Vec<Wanted> {
        let states = self.slots.values().flat_map(|slot| slot.active.iter().chain(&slot.warming));
        let wanted = states.filter_map(|state| {
            let (source, name) = eds(&state.made.cluster)?;
            let scope = state.made.cluster.stats.scope.clone();
            let (source, name) = (source.to_vec(), name.to_owned());
            Some(Wanted { source, type_url: type_url::CLUSTER_LOAD_ASSIGNMENT, name, scope })
        });
        wanted.collect()
    }

    /// Moves clusters whose needs have come. True if the set of clusters changed.
    pub fn warm(&mut self, sources: &mut Sources, over: &dyn Fn(&Awaited) -> bool, secrets: &Secrets) -> bool {
        let mut moved = std::mem::take(&mut self.removed);
        let fresh = std::mem::take(&mut self.fresh);
        for (name, slot) in &mut self.slots {
            if let Some(mut state) = slot.warming.take() {
                let ready = secrets.ready(&state.made.cluster.secrets(), sources, over);
                match endpoints(&state.made, &self.assignments, sources, over) {
                    Some(hosts) if ready => {
                        debug!(cluster = &**name, hosts = hosts.len(), "cluster is ready");
                        state.take_hosts(hosts);
                        slot.active = Some(state);
                        moved = true;
                        continue;
                    }
                    _ => slot.warming = Some(state),
                }
            }
            let Some(state) = &mut slot.active else { continue };
            let Some(key) = key(&state.made.cluster, sources) else { continue };
            if fresh.contains(&key)
                && let Some(hosts) = self.assignments.get(&key)
            {
                state.take_hosts(hosts.clone());
                self.host_changes.push((name.clone(), state.hosts.clone()));
            }
        }
        if moved {
            self.forget_unwanted(sources);
        }
        self.stats.warming.set(self.slots.values().filter(|s| s.warming.is_some()).count() as u64);
        self.stats.active.set(self.slots.values().filter(|s| s.active.is_some()).count() as u64);
        moved
    }

    fn forget_unwanted(&mut self, sources: &mut Sources) {
        let states = self.slots.values().flat_map(|slot| slot.active.iter().chain(&slot.warming));
        let wanted: Vec<Key> = states.filter_map(|state| key(&state.made.cluster, sources)).collect();
        self.assignments.retain(|key, _| wanted.contains(key));
    }

    pub fn take_host_changes(&mut self) -> Vec<(Arc<str>, Arc<HostSet>)> {
        std::mem::take(&mut self.host_changes)
    }

    /// The clusters that serve.
    pub fn entries(&self) -> HashMap<Arc<str>, ClusterEntry, foldhash::fast::RandomState> {
        let active = self.slots.iter().filter_map(|(name, slot)| Some((name, slot.active.as_ref()?)));
        active
            .map(|(name, state)| {
                (name.clone(), ClusterEntry { cluster: state.made.cluster.clone(), hosts: state.hosts.clone() })
            })
            .collect()
    }
}

impl State {
    fn take_hosts(&mut self, hosts: Vec<Arc<Host>>) {
        let cluster = &self.made.cluster;
        self.hosts = Arc::new(HostSet::new(hosts, cluster.panic_threshold));
        cluster.stats.membership_total.set(self.hosts.all.len() as u64);
        cluster.stats.membership_healthy.set(self.hosts.healthy() as u64);
        let degraded = self.hosts.all.iter().filter(|host| host.health == Health::Degraded).count();
        cluster.stats.membership_degraded.set(degraded as u64);
        // Hosts are excluded while they wait for their first health check.
        cluster.stats.membership_excluded.set(0);
        cluster.stats.membership_change.inc();
    }
}

fn eds(cluster: &Cluster) -> Option<(&[u8], &str)> {
    match &cluster.discovery {
        Discovery::Eds { service_name, source: Some(source) } => Some((source, service_name)),
        _ => None,
    }
}

fn key(cluster: &Cluster, sources: &mut Sources) -> Option<Key> {
    let (source, name) = eds(cluster)?;
    let subscription = encoded_source(source).ok()?;
    Some((sources.id(&subscription.source, type_url::CLUSTER_LOAD_ASSIGNMENT), name.to_owned()))
}

/// `None` as long as EDS has not answered and its time is not over.
fn endpoints(
    made: &Made,
    assignments: &HashMap<Key, Vec<Arc<Host>>>,
    sources: &mut Sources,
    over: &dyn Fn(&Awaited) -> bool,
) -> Option<Vec<Arc<Host>>> {
    let Some(key) = key(&made.cluster, sources) else { return Some(made.endpoints.clone()) };
    match assignments.get(&key) {
        Some(hosts) => Some(hosts.clone()),
        None => over(&(key.0, type_url::CLUSTER_LOAD_ASSIGNMENT, key.1)).then(Vec::new),
    }
}
