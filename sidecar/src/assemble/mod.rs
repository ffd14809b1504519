//! The only writer of configuration: takes resources as they come, checks and compiles them, waits until
//! what they need is there (warming), and publishes the next snapshot and listeners to the workers.
//!
//! A bad resource harms only itself: the others of its response are taken, the response is refused by
//! name. Source: Envoy's "Initialization" and "Cluster warming" pages.

mod clusters;
pub mod config;
mod credentials;
mod listeners;
pub mod membership;
mod routes;
mod secrets;
mod sources;
mod stats;
pub mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};
use xds::type_url;

use crate::discovery::identity;
use crate::discovery::stream::Options as StreamOptions;
use crate::discovery::{Change, Event, Verdict};
use crate::observe::stats::{Gauge, Scope};
use crate::snapshot::Snapshot;
use crate::tls::SecretStore;
use crate::worker::{Update, WorkerHandle};
use clusters::Clusters;
use config::{Server, Subscription, encoded_source};
use credentials::Proofs;
use listeners::Listeners;
use routes::Routes;
use secrets::Secrets;
use sources::{ADS, SourceId, Sources};
use stats::SubscriptionStats;
use view::{Queries, Query, View};

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

/// A resource that somebody uses: the encoded `ConfigSource`, and where it is counted.
pub struct Wanted {
    pub source: Vec<u8>,
    pub type_url: &'static str,
    pub name: String,
    pub scope: Scope,
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
    /// Subscriptions with names in them.
    asked: HashSet<(SourceId, &'static str)>,
    /// Types whose first response, or its time limit, has come.
    answered: HashSet<&'static str>,
    /// Resources whose time limit is running or has passed.
    timed: HashMap<Awaited, bool>,
    events: mpsc::UnboundedReceiver<(SourceId, Event)>,
    expired: (mpsc::UnboundedSender<Awaited>, mpsc::UnboundedReceiver<Awaited>),
    /// What clusters' own tasks find out about their hosts.
    found: mpsc::UnboundedReceiver<membership::Event>,
    queries: (mpsc::UnboundedSender<Query>, mpsc::UnboundedReceiver<Query>),
    /// `control_plane.connected_state`.
    connected: Gauge,
    subscriptions: HashMap<Awaited, Vec<SubscriptionStats>>,
    /// What has come at least once.
    received: HashSet<Awaited>,
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
pub use sources::dial;

impl Assembly {
    pub fn new(start: Start) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let (snapshot, node) = (start.snapshot.clone(), start.node);
        let ads = start.dynamic.ads.as_ref();
        let proofs = Proofs::new(&node, ads);
        let own = proofs.ca().map(|ca| (ca, config::node_text(&node, xds::node::metadata::CA_IDENTITY)));
        let options = Box::new(move |server: &Server, aggregated: bool| StreamOptions {
            variant: server.variant(),
            aggregated,
            node: node.clone(),
            node_on_first_only: server.node_on_first_only,
            dial: sources::dial(server.cluster.clone(), snapshot.clone(), b"h2", sources::PATIENCE),
            credentials: proofs.of(server),
            authority: server.authority.clone(),
            cluster: server.cluster.clone(),
            back_off: server.back_off,
        });
        let sources = Sources::new(ads, own, options, sender);
        let workers = start.workers.len();
        let (finds, found) = mpsc::unbounded_channel();
        Assembly {
            workers: start.workers,
            snapshot: start.snapshot,
            store: start.store,
            sources,
            clusters: Clusters::new(start.fixed_clusters, workers, finds),
            listeners: Listeners::new(start.fixed_listeners),
            routes: Routes::default(),
            secrets: Secrets::default(),
            dynamic: start.dynamic,
            phase: watch::Sender::new(Phase::Clusters),
            asked: HashSet::new(),
            answered: HashSet::new(),
            timed: HashMap::new(),
            events,
            found,
            queries: mpsc::unbounded_channel(),
            expired: mpsc::unbounded_channel(),
            connected: Scope::root().child("control_plane").gauge("connected_state"),
            subscriptions: HashMap::new(),
            received: HashSet::new(),
        }
    }

    /// How far the start has come, now and later.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Where the admin pages ask.
    pub fn queries(&self) -> Queries {
        Queries(self.queries.0.clone())
    }

    fn answer(&mut self, query: Query) {
        match query {
            Query::View(answer) => {
                let view = View {
                    clusters: self.clusters.shown(),
                    listeners: self.listeners.shown(),
                    routes: self.routes.shown(),
                    secrets: self.secrets.shown(),
                    hosts: self.clusters.hosts(),
                    serving: self.listeners.serving(),
                    certificates: self.listeners.certificates().chain(self.clusters.certificates()).collect(),
                };
                // Whoever asked may be gone.
                let _ = answer.send(view);
            }
            Query::Drain { inbound_only } => self.listeners.drain(&self.workers, inbound_only),
        }
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
                Some(event) = self.found.recv() => self.clusters.hear(event),
                Some(query) = self.queries.1.recv() => self.answer(query),
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
        let awaited = (id, type_url, String::new());
        let scope = match type_url {
            type_url::CLUSTER => Scope::root().child("cluster_manager").child("cds"),
            _ => Scope::root().child("listener_manager").child("lds"),
        };
        self.watch(awaited.clone(), &scope);
        self.await_until(awaited, subscription.initial_fetch_timeout);
    }

    /// Counts what becomes of a resource in this scope too.
    fn watch(&mut self, awaited: Awaited, scope: &Scope) {
        let stats = SubscriptionStats::new(scope);
        if self.sources.is_stream(awaited.0) {
            stats.attempt.inc();
        }
        self.subscriptions.entry(awaited).or_default().push(stats);
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
        if self.received.contains(&awaited) {
            return;
        }
        for stats in self.subscriptions.get(&awaited).into_iter().flatten() {
            stats.fetch_timeout.inc();
        }
        if awaited.2.is_empty() {
            self.answered.insert(awaited.1);
        }
        self.timed.insert(awaited, true);
    }

    fn heard(&mut self, source: SourceId, event: Event) {
        match event {
            Event::Connected(open) => {
                if source == ADS {
                    self.connected.set(u64::from(open));
                }
                if !open {
                    self.of_source(source).for_each(|stats| {
                        stats.failure.inc();
                        stats.attempt.inc();
                    });
                }
            }
            Event::Failed { type_url, why } => {
                warn!(type_url, "update refused: {why}");
                let stream = self.sources.is_stream(source);
                self.of_source(source).for_each(|stats| match stream {
                    true => stats.refused(true),
                    false => {
                        stats.attempt.inc();
                        stats.failure.inc();
                    }
                });
            }
            Event::Change(change, verdict) => {
                let names: Vec<String> = change.resources.iter().map(|r| r.name.clone()).collect();
                let (type_url, version) = (change.type_url.clone(), change.version.clone());
                let judged = self.apply(source, change);
                for awaited in self.routes.take_reloaded() {
                    self.subscriptions.get(&awaited).into_iter().flatten().for_each(|stats| stats.reload.inc());
                }
                self.count(source, &type_url, &names, &version, judged.is_ok());
                let _ = verdict.send(judged);
            }
        }
    }

    fn of_source(&self, source: SourceId) -> impl Iterator<Item = &SubscriptionStats> {
        self.subscriptions.iter().filter(move |(awaited, _)| awaited.0 == source).flat_map(|(_, stats)| stats)
    }

    /// Counts a response for each resource of it that somebody waits for.
    fn count(&mut self, source: SourceId, type_url: &str, names: &[String], version: &str, taken: bool) {
        let stream = self.sources.is_stream(source);
        for (awaited, all) in &self.subscriptions {
            let named = names.contains(&awaited.2);
            if awaited.0 != source || awaited.1 != type_url || !(awaited.2.is_empty() || named) {
                continue;
            }
            self.received.insert(awaited.clone());
            for stats in all {
                if !stream {
                    stats.attempt.inc();
                }
                if taken { stats.taken(version, stream) } else { stats.refused(stream) }
            }
        }
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
            type_url::SECRET => {
                let verdict = self.secrets.update(source, &change);
                // The first are no change: what was signed was signed by them.
                let known = self.received.contains(&(ADS, type_url::SECRET, identity::ROOTS.to_owned()));
                if source == ADS && known && names.contains(identity::ROOTS) {
                    self.sources.roots_changed();
                }
                verdict
            }
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
                    crate::memory::give_back();
                    return true;
                }
                false
            }
            Phase::Clusters => false,
        }
    }

    /// Tells every subscription what is wanted of it now.
    fn subscribe(&mut self) {
        let mut wanted: BTreeMap<(SourceId, &'static str), BTreeSet<String>> = BTreeMap::new();
        let mut first_seen = Vec::new();
        for Wanted { source, type_url, name, scope } in self.wanted() {
            match encoded_source(&source) {
                Ok(subscription) => {
                    let id = self.sources.id(&subscription.source, type_url);
                    wanted.entry((id, type_url)).or_default().insert(name.clone());
                    first_seen.push(((id, type_url, name), scope, subscription.initial_fetch_timeout));
                }
                Err(error) => warn!("{name}: {error}"),
            }
        }
        let idle: Vec<_> = self.asked.iter().filter(|key| !wanted.contains_key(*key)).copied().collect();
        for (id, type_url) in idle {
            self.sources.want(id, type_url, BTreeSet::new());
            self.asked.remove(&(id, type_url));
        }
        for ((id, type_url), names) in wanted {
            self.asked.insert((id, type_url));
            self.sources.want(id, type_url, names);
        }
        for (awaited, scope, limit) in first_seen {
            if !self.timed.contains_key(&awaited) {
                self.watch(awaited.clone(), &scope);
                self.await_until(awaited, limit);
            }
        }
    }

    /// Every resource that somebody uses by name.
    fn wanted(&self) -> Vec<Wanted> {
        let mut all = self.clusters.assignments_wanted();
        all.extend(self.listeners.routes_wanted());
        all.extend(self.store.wanted().iter().filter_map(|slot| {
            let (source, name) = (slot.reference.source.clone()?, slot.reference.name.clone());
            let scope = Scope::root().child("sds").child(&name);
            Some(Wanted { source, type_url: type_url::SECRET, name, scope })
        }));
        all
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
