//! Clusters and their endpoints: CDS and EDS. A changed cluster serves once its endpoints and secrets
//! have come; the one of before serves until then.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::mpsc;
use tracing::debug;
use xds::type_url;

use super::config::encoded_source;
use super::config::same;
use super::membership::{Event, Membership};
use super::secrets::Secrets;
use super::sources::{SourceId, Sources};
use super::stats::ChangeStats;
use super::view::{Resources, Shown};
use super::{Awaited, Wanted, verdict};
use crate::cluster::{Cluster, Discovery, Host, HostSet};
use crate::discovery::{Change, Verdict};
use crate::snapshot::ClusterEntry;
use crate::tls::{SecretSlot, SecretStore};

/// A compiled cluster with the endpoints that its own configuration names.
pub struct Made {
    pub cluster: Arc<Cluster>,
    pub endpoints: Vec<Arc<Host>>,
}

struct State {
    made: Made,
    /// The resource as it came, to see whether a later one differs.
    encoded: Vec<u8>,
    version: String,
    updated: SystemTime,
    membership: Membership,
    hosts: Arc<HostSet>,
    /// Its hosts have been given to the membership at least once.
    filled: bool,
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
    finds: mpsc::UnboundedSender<Event>,
    next_membership: u64,
    stats: ChangeStats,
}

impl Clusters {
    pub fn new(fixed: Vec<Made>, workers: usize, finds: mpsc::UnboundedSender<Event>) -> Self {
        let next_membership = fixed.len() as u64;
        let slots = (0..).zip(fixed).map(|(id, made)| {
            let name = made.cluster.name.clone();
            let membership = Membership::new(id, made.cluster.clone(), workers, finds.clone());
            let state = State::new(made, (Vec::new(), String::new()), membership);
            (name, Slot { active: None, warming: Some(state), fixed: true })
        });
        let slots: BTreeMap<_, _> = slots.collect();
        let stats = ChangeStats::clusters();
        stats.added.add(slots.len() as u64);
        Clusters {
            slots,
            assignments: HashMap::new(),
            fresh: Vec::new(),
            host_changes: Vec::new(),
            removed: false,
            workers,
            finds: finds.clone(),
            next_membership,
            stats,
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
            if latest.is_some_and(|state| same(&change.type_url, &state.encoded, &resource.resource.value)) {
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
                    self.next_membership += 1;
                    let (id, workers) = (self.next_membership, self.workers);
                    let membership = Membership::new(id, made.cluster.clone(), workers, self.finds.clone());
                    slot.warming = Some(State::new(made, (encoded, resource.version.clone()), membership));
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
                if let Some(hosts) = endpoints(&state.made, &self.assignments, sources, over)
                    && !state.filled
                {
                    state.fill(hosts);
                }
                if ready && state.filled && state.membership.is_ready() {
                    debug!(cluster = &**name, "cluster is ready");
                    state.show();
                    slot.active = Some(state);
                    moved = true;
                    continue;
                }
                slot.warming = Some(state);
            }
            let Some(state) = &mut slot.active else { continue };
            let Some(key) = key(&state.made.cluster, sources) else { continue };
            if fresh.contains(&key)
                && let Some(hosts) = self.assignments.get(&key)
            {
                state.membership.update(hosts.clone());
                state.show();
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

    /// Takes what a cluster's tasks found.
    pub fn hear(&mut self, event: Event) {
        for (name, slot) in &mut self.slots {
            if let Some(state) = slot.warming.as_mut().filter(|s| s.membership.id == event.id) {
                state.membership.hear(event.what);
                return;
            }
            if let Some(state) = slot.active.as_mut().filter(|s| s.membership.id == event.id) {
                if state.membership.hear(event.what) {
                    state.show();
                    self.host_changes.push((name.clone(), state.hosts.clone()));
                }
                return;
            }
        }
    }

    pub fn take_host_changes(&mut self) -> Vec<(Arc<str>, Arc<HostSet>)> {
        std::mem::take(&mut self.host_changes)
    }

    /// Those that came by CDS.
    pub fn shown(&self) -> Resources {
        let mut shown = Resources::default();
        for (name, slot) in self.slots.iter().filter(|(_, slot)| !slot.fixed) {
            shown.active.extend(slot.active.iter().map(|state| state.shown(name)));
            shown.warming.extend(slot.warming.iter().map(|state| state.shown(name)));
        }
        shown
    }

    /// All that serve, with their hosts; true for those of CDS.
    pub fn hosts(&self) -> Vec<(Arc<Cluster>, Arc<HostSet>, bool)> {
        let active = self.slots.values().filter_map(|slot| Some((slot.active.as_ref()?, !slot.fixed)));
        active.map(|(state, by_api)| (state.made.cluster.clone(), state.hosts.clone(), by_api)).collect()
    }

    /// What their TLS contexts use.
    pub fn certificates(&self) -> impl Iterator<Item = Arc<SecretSlot>> {
        let active = self.slots.values().filter_map(|slot| slot.active.as_ref());
        active.flat_map(|state| state.made.cluster.all_secrets())
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
    fn new(made: Made, (encoded, version): (Vec<u8>, String), membership: Membership) -> Self {
        let updated = SystemTime::now();
        State { made, encoded, version, updated, membership, hosts: Arc::default(), filled: false }
    }

    fn shown(&self, name: &str) -> Shown {
        Shown {
            name: name.to_owned(),
            encoded: self.encoded.clone(),
            version: self.version.clone(),
            updated: self.updated,
        }
    }

    /// The hosts that the configuration or EDS names have come.
    fn fill(&mut self, hosts: Vec<Arc<Host>>) {
        self.filled = true;
        self.membership.update(hosts);
        self.membership.start();
    }

    /// Makes the hosts that may be used now.
    fn show(&mut self) {
        let before = std::mem::replace(&mut self.hosts, self.membership.hosts());
        let same = |(old, new): (&Arc<Host>, &Arc<Host>)| old.address == new.address;
        let unchanged = before.all.len() == self.hosts.all.len() && before.all.iter().zip(&self.hosts.all).all(same);
        if !unchanged || before.all.is_empty() {
            self.made.cluster.stats.membership_change.inc();
        }
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
