//! One worker: an OS thread with its own runtime, listeners, pools and counters. It hears of
//! configuration by messages from the main thread and shares nothing that is written per request.

mod drains;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tracing::warn;

use crate::cluster::HostSet;
use crate::listener::{self, Listener};
use crate::observe::stats;
use crate::snapshot::Snapshot;
use crate::upstream::LocalCluster;

pub use drains::{Drains, Registered};

/// What the main thread tells a worker. Messages are applied in order.
pub enum Update {
    /// Requests from now on see this configuration.
    Snapshot(Arc<Snapshot>),
    /// A cluster's hosts changed.
    Hosts(Arc<str>, Arc<HostSet>),
    /// Listen on sockets made for this worker.
    /// Without one it only serves what other listeners hand over.
    Listen { listener: Arc<Listener>, sockets: Vec<std::net::TcpListener> },
    /// The listener of this name changed; its socket stays. Connections of before are told to go.
    Replace { listener: Arc<Listener> },
    /// The listener of this name is gone; its connections are told to go.
    Unlisten { name: String },
    /// Stop accepting, everywhere.
    StopListening,
    /// All listeners of a direction drain (`inbound_only`), the worker itself goes on.
    DrainAll { inbound_only: bool },
    /// Answers when no HTTP connection is left.
    WhenIdle(oneshot::Sender<()>),
}

/// The main thread's end.
pub struct WorkerHandle {
    updates: mpsc::UnboundedSender<Update>,
    thread: Option<JoinHandle<()>>,
}

impl WorkerHandle {
    /// Starts worker `index`.
    ///
    /// # Errors
    /// The thread or its runtime can't be made.
    pub fn start(index: usize, snapshot: Arc<Snapshot>) -> std::io::Result<Self> {
        let (updates, inbox) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(61).build()?;
        let thread = std::thread::Builder::new().name(format!("wrk:worker_{index}")).spawn(move || {
            stats::enter_worker(index);
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                let worker = Worker::new(index, snapshot);
                worker.run(inbox).await;
            });
        })?;
        Ok(WorkerHandle { updates, thread: Some(thread) })
    }

    /// A worker that is gone hears nothing: that is the main thread's own shutdown.
    pub fn send(&self, update: Update) {
        let _ = self.updates.send(update);
    }

    /// Until the worker has no HTTP connection any more.
    pub async fn idle(&self) {
        let (done, idle) = oneshot::channel();
        self.send(Update::WhenIdle(done));
        let _ = idle.await;
    }

    /// Ends the thread; connections are cut.
    pub fn stop(mut self) {
        drop(self.updates);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A snapshot with this worker's own balancers and pools.
pub struct LocalSnapshot {
    pub shared: Arc<Snapshot>,
    clusters: HashMap<Arc<str>, Rc<LocalCluster>, foldhash::fast::RandomState>,
}

impl LocalSnapshot {
    pub fn cluster(&self, name: &str) -> Option<&Rc<LocalCluster>> {
        self.clusters.get(name)
    }

    /// Takes over the clusters whose configuration is the same.
    fn next(previous: Option<&LocalSnapshot>, shared: Arc<Snapshot>, worker: usize) -> Self {
        let clusters = shared
            .clusters
            .iter()
            .map(|(name, entry)| {
                let kept = previous
                    .and_then(|p| p.clusters.get(name))
                    .filter(|local| Arc::ptr_eq(&local.cluster, &entry.cluster))
                    .cloned();
                let local = kept.unwrap_or_else(|| LocalCluster::new(entry.cluster.clone(), worker));
                local.set_hosts(entry.hosts.clone());
                (name.clone(), local)
            })
            .collect();
        LocalSnapshot { shared, clusters }
    }
}

/// A listener that accepts. The sockets outlive the tasks, so that a changed listener takes them over with
/// all connections that wait in them.
struct Listening {
    listener: Arc<Listener>,
    sockets: Vec<std::net::TcpListener>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.accepting.iter().for_each(|task| task.abort());
    }
}

/// One worker's state; lives on its thread.
pub struct Worker {
    pub index: usize,
    snapshot: RefCell<Rc<LocalSnapshot>>,
    listeners: RefCell<HashMap<String, Listening>>,
    drains: Drains,
}

impl Worker {
    fn new(index: usize, snapshot: Arc<Snapshot>) -> Rc<Self> {
        Rc::new(Worker {
            index,
            snapshot: RefCell::new(Rc::new(LocalSnapshot::next(None, snapshot, index))),
            listeners: RefCell::default(),
            drains: Drains::default(),
        })
    }

    /// The configuration as it is now.
    pub fn snapshot(&self) -> Rc<LocalSnapshot> {
        self.snapshot.borrow().clone()
    }

    pub fn drains(&self) -> &Drains {
        &self.drains
    }

    async fn run(self: &Rc<Self>, mut inbox: mpsc::UnboundedReceiver<Update>) {
        while let Some(update) = inbox.recv().await {
            self.apply(update);
        }
    }

    fn apply(self: &Rc<Self>, update: Update) {
        match update {
            Update::Snapshot(shared) => {
                let next = Rc::new(LocalSnapshot::next(Some(&self.snapshot()), shared, self.index));
                *self.snapshot.borrow_mut() = next;
            }
            Update::Hosts(name, hosts) => {
                if let Some(cluster) = self.snapshot().cluster(&name) {
                    cluster.set_hosts(hosts);
                }
            }
            Update::Listen { listener, sockets } => {
                self.hand_over(&listener);
                self.listen(listener, sockets);
            }
            Update::Replace { listener } => {
                if let Some(before) = self.stop(&listener.name) {
                    let sockets = before.sockets.iter().filter_map(|socket| socket.try_clone().ok()).collect();
                    self.listen(listener, sockets);
                    self.drain(&before.listener);
                }
            }
            Update::Unlisten { name } => {
                if let Some(gone) = self.stop(&name) {
                    self.drain(&gone.listener);
                }
            }
            Update::StopListening => self.listeners.borrow_mut().clear(),
            Update::DrainAll { inbound_only } => {
                self.drains.drain_all(inbound_only);
            }
            Update::WhenIdle(done) => self.drains.when_idle(done),
        }
    }

    fn listen(self: &Rc<Self>, listener: Arc<Listener>, sockets: Vec<std::net::TcpListener>) {
        let accepted = match sockets.iter().map(std::net::TcpListener::try_clone).collect::<Result<Vec<_>, _>>() {
            Ok(sockets) => sockets,
            Err(error) => return warn!(listener = listener.name, "cannot listen: {error}"),
        };
        let accept = |socket| tokio::task::spawn_local(listener::accept(listener.clone(), socket, self.clone()));
        let accepting = accepted.into_iter().map(accept).collect();
        let name = listener.name.clone();
        self.listeners.borrow_mut().insert(name, Listening { listener, sockets, accepting });
    }

    /// The listener of an address, or else the one of its port on all addresses.
    pub fn listener_at(&self, address: SocketAddr) -> Option<Arc<Listener>> {
        let listeners = self.listeners.borrow();
        let mut all = listeners.values().map(|l| &l.listener).filter(|l| l.address.port() == address.port());
        let exact = all.clone().find(|l| l.address.ip() == address.ip());
        exact.or_else(|| all.find(|l| l.address.ip().is_unspecified())).cloned()
    }

    /// What arrived for the address before it had a listener of its own is served by the listener that takes all: it is told to go, so
    /// that it comes back to this one.
    fn hand_over(&self, listener: &Listener) {
        self.drains.leave(|session| session.connection.local.socket() == Some(listener.address));
    }

    fn stop(&self, name: &str) -> Option<Listening> {
        self.listeners.borrow_mut().remove(name)
    }

    fn drain(&self, listener: &Listener) {
        self.drains.leave(|session| listener.managers().any(|manager| Arc::ptr_eq(manager, &session.manager)));
    }
}
