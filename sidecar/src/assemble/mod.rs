//! The only writer of configuration: takes resources as they come, checks and compiles them, waits until
//! what they need is there (warming), and publishes the next snapshot and listeners to the workers.
//!
//! A bad resource harms only itself: the others of its response are taken, the response is refused by
//! name. Source: Envoy's "Initialization" and "Cluster warming" pages.

mod clusters;
pub mod config;
mod listeners;
mod routes;
mod secrets;
mod sources;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};
use xds::type_url;

use crate::discovery::stream::{Credentials, Options as StreamOptions};
use crate::discovery::{Change, Event, Verdict};
use crate::observe::stats::{Counter, Gauge, Scope};
use crate::snapshot::Snapshot;
use crate::tls::SecretStore;
use crate::worker::{Update, WorkerHandle};
use clusters::Clusters;
use config::{Server, Subscription, encoded_source};
use listeners::Listeners;
use routes::Routes;
use secrets::Secrets;
use sources::{ADS, SourceId, Sources};

/// What the bootstrap says of where configuration comes from.
#[derive(Default)]
pub struct Dynamic {
    pub ads: Option<Server>,
    pub clusters: Option<Subscription>,
    pub listeners: Option<Subscription>,
}

/// How far the start has come. Source: Envoy's `ServerState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The first clusters are waited for.
    Clusters,
    /// The first listeners are waited for.
    Listeners,
    /// Workers accept.
    Live,
}

/// One resource that is waited for: its subscription, type and name.
type Awaited = (SourceId, &'static str, String);

/// All configuration, on the main thread.
pub struct Assembly {
    workers: Vec<WorkerHandle>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    store: Arc<SecretStore>,
    sources: Sources,
    clusters: Clusters,
    listeners: Listeners,
    routes: Routes,
    secrets: Secrets,
    dynamic: Dynamic,
    phase: watch::Sender<Phase>,
    /// Types whose first response, or its time limit, has come.
    answered: HashSet<&'static str>,
    /// Resources whose time limit is running or has passed.
    timed: HashMap<Awaited, bool>,
    events: mpsc::UnboundedReceiver<(SourceId, Event)>,
    expired: (mpsc::UnboundedSender<Awaited>, mpsc::UnboundedReceiver<Awaited>),
    stats: Stats,
}

/// Handles to `control_plane.*` and the managers' own counters.
struct Stats {
    connected: Gauge,
    cluster_success: Counter,
    cluster_rejected: Counter,
    listener_success: Counter,
    listener_rejected: Counter,
}

/// What an [`Assembly`] starts from.
pub struct Start {
    pub workers: Vec<WorkerHandle>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub store: Arc<SecretStore>,
    pub fixed_clusters: Vec<clusters::Made>,
    pub fixed_listeners: Vec<Arc<crate::listener::Listener>>,
    pub dynamic: Dynamic,
    pub node: crate::bootstrap::Node,
}

pub use clusters::Made;

impl Assembly {
    pub fn new(start: Start) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let (snapshot, node) = (start.snapshot.clone(), start.node);
        let options = Arc::new(move |server: &Server, aggregated: bool| {
            let metadata = server.metadata.clone();
            let credentials: Credentials = Arc::new(move || metadata.clone());
            StreamOptions {
                variant: server.variant(),
                aggregated,
                node: node.clone(),
                node_on_first_only: server.node_on_first_only,
                dial: sources::dial(server.cluster.clone(), snapshot.clone()),
                credentials,
                authority: server.authority.clone(),
                cluster: server.cluster.clone(),
            }
        });
        let sources = Sources::new(start.dynamic.ads.as_ref(), options, sender);
        let workers = start.workers.len();
        let (cds, lds) = (Scope::root().child("cluster_manager").child("cds"), Scope::root().child("listener_manager"));
        let lds = lds.child("lds");
        Assembly {
            workers: start.workers,
            snapshot: start.snapshot,
            store: start.store,
            sources,
            clusters: Clusters::new(start.fixed_clusters, workers),
            listeners: Listeners::new(start.fixed_listeners),
            routes: Routes::default(),
            secrets: Secrets::default(),
            dynamic: start.dynamic,
            phase: watch::Sender::new(Phase::Clusters),
            answered: HashSet::new(),
            timed: HashMap::new(),
            events,
            expired: mpsc::unbounded_channel(),
            stats: Stats {
                connected: Scope::root().child("control_plane").gauge("connected_state"),
                cluster_success: cds.counter("update_success"),
                cluster_rejected: cds.counter("update_rejected"),
                listener_success: lds.counter("update_success"),
                listener_rejected: lds.counter("update_rejected"),
            },
        }
    }

    /// How far the start has come, now and later.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Works until `stop` is done, then gives the workers back.
    ///
    /// # Errors
    /// A listener of the bootstrap can't be bound.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> anyhow::Result<Vec<WorkerHandle>> {
        tokio::pin!(stop);
        self.begin();
        self.advance()?;
        loop {
            tokio::select! {
                () = &mut stop => return Ok(self.workers),
                Some((source, event)) = self.events.recv() => self.heard(source, event),
                Some(awaited) = self.expired.1.recv() => self.gave_up(awaited),
            }
            self.advance()?;
        }
    }

    fn begin(&mut self) {
        let cds = self.dynamic.clusters.clone();
        self.ask_all(cds, type_url::CLUSTER);
    }

    /// Asks for all resources of a type; without a source there are none.
    fn ask_all(&mut self, subscription: Option<Subscription>, type_url: &'static str) {
        let Some(subscription) = subscription else {
            self.answered.insert(type_url);
            return;
        };
        let id = self.sources.id(&subscription.source, type_url);
        self.sources.want_all(id, type_url);
        self.await_until((id, type_url, String::new()), subscription.initial_fetch_timeout);
    }

    /// Starts a resource's time limit, once.
    fn await_until(&mut self, awaited: Awaited, limit: Option<Duration>) {
        if self.timed.contains_key(&awaited) {
            return;
        }
        self.timed.insert(awaited.clone(), false);
        if let Some(limit) = limit {
            let expired = self.expired.0.clone();
            tokio::spawn(async move {
                tokio::time::sleep(limit).await;
                let _ = expired.send(awaited);
            });
        }
    }

    fn gave_up(&mut self, awaited: Awaited) {
        if awaited.2.is_empty() {
            self.answered.insert(awaited.1);
        }
        self.timed.insert(awaited, true);
    }

    fn heard(&mut self, source: SourceId, event: Event) {
        match event {
            Event::Connected(open) => {
                if source == ADS {
                    self.stats.connected.set(u64::from(open));
                }
            }
            Event::Failed { type_url, why } => {
                warn!(type_url, "update refused: {why}");
                self.count(&type_url, false);
            }
            Event::Change(change, verdict) => {
                let type_url = change.type_url.clone();
                let judged = self.apply(source, change);
                self.count(&type_url, judged.is_ok());
                let _ = verdict.send(judged);
            }
        }
    }

    fn count(&self, type_url: &str, success: bool) {
        let counters = match type_url {
            type_url::CLUSTER => (&self.stats.cluster_success, &self.stats.cluster_rejected),
            type_url::LISTENER => (&self.stats.listener_success, &self.stats.listener_rejected),
            _ => return,
        };
        if success { counters.0.inc() } else { counters.1.inc() }
    }

    fn apply(&mut self, source: SourceId, change: Change) -> Verdict {
        let names: BTreeSet<&str> = change.resources.iter().map(|r| r.name.as_str()).collect();
        if names.len() != change.resources.len() {
            let mut seen = HashSet::new();
            let twice = change.resources.iter().map(|r| r.name.as_str()).find(|name| !seen.insert(*name));
            return Err(format!("duplicate {} {} found", kind(&change.type_url), twice.unwrap_or("")));
        }
        match change.type_url.as_str() {
            type_url::CLUSTER => {
                let verdict = self.clusters.update(&change, &self.store);
                self.answered.insert(type_url::CLUSTER);
                verdict
            }
            type_url::LISTENER => {
                let known = |name: &str| self.clusters.exists(name);
                let verdict = self.listeners.update(&change, &self.store, &known);
                self.answered.insert(type_url::LISTENER);
                verdict
            }
            type_url::CLUSTER_LOAD_ASSIGNMENT => self.clusters.assign(source, &change),
            type_url::ROUTE_CONFIGURATION => {
                let known = |name: &str| self.clusters.exists(name);
                self.routes.update(source, &change, &known)
            }
            type_url::SECRET => self.secrets.update(source, &change),
            other => Err(format!("unexpected resource type {other}")),
        }
    }

    /// Asks for what is missing, moves what is complete, and tells the workers.
    fn advance(&mut self) -> anyhow::Result<()> {
        loop {
            self.subscribe();
            self.secrets.fill(&self.store, &mut self.sources);
            let timed = &self.timed;
            let over = |awaited: &Awaited| timed.get(awaited) == Some(&true);
            let moved = self.clusters.warm(&mut self.sources, &over, &self.secrets);
            let routes_changed = self.routes.take_changed();
            if moved || routes_changed {
                self.publish();
            }
            for (name, hosts) in self.clusters.take_host_changes() {
                self.workers.iter().for_each(|w| w.send(Update::Hosts(name.clone(), hosts.clone())));
            }
            if !self.next_phase() {
                break;
            }
        }
        if *self.phase.borrow() == Phase::Live {
            self.listeners.settle(&self.workers)?;
        }
        Ok(())
    }

    /// True if the start moved on.
    fn next_phase(&mut self) -> bool {
        let phase = *self.phase.borrow();
        match phase {
            Phase::Clusters if self.answered.contains(type_url::CLUSTER) && !self.clusters.is_warming() => {
                self.phase.send_replace(Phase::Listeners);
                let lds = self.dynamic.listeners.clone();
                self.ask_all(lds, type_url::LISTENER);
                true
            }
            Phase::Listeners | Phase::Live => {
                let timed = &self.timed;
                let over = |awaited: &Awaited| timed.get(awaited) == Some(&true);
                self.listeners.warm(&mut self.sources, &self.routes, &over, &self.secrets);
                let done = self.answered.contains(type_url::LISTENER) && !self.listeners.is_warming();
                if phase == Phase::Listeners && done {
                    info!("all clusters and listeners initialized, workers accept");
                    self.phase.send_replace(Phase::Live);
                    return true;
                }
                false
            }
            Phase::Clusters => false,
        }
    }

    /// Tells every subscription what is wanted of it now.
    fn subscribe(&mut self) {
        let mut wanted: BTreeMap<(SourceId, &'static str), BTreeMap<String, Option<Duration>>> = BTreeMap::new();
        let mut want =
            |sources: &mut Sources, source: &[u8], type_url: &'static str, name: String| match encoded_source(source) {
                Ok(subscription) => {
                    let id = sources.id(&subscription.source, type_url);
                    wanted.entry((id, type_url)).or_default().insert(name, subscription.initial_fetch_timeout);
                }
                Err(error) => warn!("{name}: {error}"),
            };
        for (source, name) in self.clusters.assignments_wanted() {
            want(&mut self.sources, &source, type_url::CLUSTER_LOAD_ASSIGNMENT, name);
        }
        for (source, name) in self.listeners.routes_wanted() {
            want(&mut self.sources, &source, type_url::ROUTE_CONFIGURATION, name);
        }
        for slot in self.store.wanted() {
            if let Some(source) = &slot.reference.source {
                want(&mut self.sources, source, type_url::SECRET, slot.reference.name.clone());
            }
        }
        for ((id, type_url), names) in wanted {
            self.sources.want(id, type_url, names.keys().cloned().collect());
            for (name, limit) in names {
                self.await_until((id, type_url, name), limit);
            }
        }
    }

    fn publish(&mut self) {
        let snapshot =
            Arc::new(Snapshot { clusters: self.clusters.entries(), routes: self.routes.tables(&self.listeners) });
        self.snapshot.store(snapshot.clone());
        self.workers.iter().for_each(|w| w.send(Update::Snapshot(snapshot.clone())));
    }
}

fn kind(type_url: &str) -> &'static str {
    match type_url {
        type_url::CLUSTER => "cluster",
        type_url::LISTENER => "listener",
        type_url::ROUTE_CONFIGURATION => "route",
        _ => "resource",
    }
}

/// Several failures as one message, as Envoy words it: `Error adding/updating cluster(s) a: why, b: why`.
fn verdict(what: &str, failures: Vec<(String, String)>) -> Verdict {
    if failures.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = failures.into_iter().map(|(name, why)| format!("{name}: {why}")).collect();
    Err(format!("Error adding/updating {what}(s) {}", all.join(", ")))
}
