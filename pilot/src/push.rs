//! From what a source observes to what proxies are sent: rebuilt at each change, published at once.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use api::Problem;
use parking_lot::Mutex;
use tokio::sync::watch;
use xds::ResourceSet;

use crate::generate;
use crate::ir::ProxyPlan;
use crate::mesh::{self, Domains, MeshSnapshot};
use crate::plan::{self, Kind, ProxyClass};
use crate::source::{Observed, Watch};

/// The latest published state.
pub type Latest = watch::Receiver<Arc<Published>>;

/// One state of the mesh, and what was made of it so far.
#[derive(Debug, Default)]
pub struct Published {
    /// Counts the states of this process, from 1.
    pub generation: u64,
    /// What the source saw.
    pub observed: Arc<Observed>,
    /// The mesh.
    pub mesh: MeshSnapshot,
    /// All that is wrong, located.
    pub problems: Vec<Problem>,
    /// Endpoints, which all proxies have.
    endpoints: OnceLock<ResourceSet>,
    /// What all proxies of a kind have, and those of one namespace.
    by_kind: Mutex<HashMap<Kind, ResourceSet>>,
    by_namespace: Mutex<HashMap<(String, Kind), ResourceSet>>,
    sets: Mutex<HashMap<ProxyClass, Option<ResourceSet>>>,
}

impl Published {
    fn new(generation: u64, observed: Arc<Observed>, domains: &Domains) -> Self {
        let (mesh, more) = mesh::build(&observed.objects, domains);
        let problems = observed.problems.iter().cloned().chain(more).collect();
        Self { generation, observed, mesh, problems, ..Self::default() }
    }

    /// What proxies of a class are sent; `None` for a workload that does not exist. Made once for all proxies of the class.
    pub fn resources(&self, class: &ProxyClass) -> Option<ResourceSet> {
        if let Some(made) = self.sets.lock().get(class) {
            return made.clone();
        }
        let made = self.make(class);
        self.sets.lock().insert(class.clone(), made.clone());
        made
    }

    fn make(&self, class: &ProxyClass) -> Option<ResourceSet> {
        let kind = Kind::of(&self.mesh, class)?;
        let mut set = self.of_kind(kind);
        set.extend(self.of_namespace(&class.workload.namespace, kind).iter().cloned());
        set.extend(generate::resources(&plan::own(&self.mesh, class)).iter().cloned());
        Some(set)
    }

    fn of_kind(&self, kind: Kind) -> ResourceSet {
        let make = || {
            let clusters = ProxyPlan { clusters: plan::shared(&self.mesh, kind), ..ProxyPlan::default() };
            let mut set = generate::resources(&clusters);
            let endpoints = self.endpoints.get_or_init(|| generate::endpoints(&plan::endpoints(&self.mesh)));
            set.extend(endpoints.iter().cloned());
            set
        };
        self.by_kind.lock().entry(kind).or_insert_with(make).clone()
    }

    fn of_namespace(&self, namespace: &str, kind: Kind) -> ResourceSet {
        let make = || generate::resources(&plan::namespace(&self.mesh, namespace, kind));
        self.by_namespace.lock().entry((namespace.to_owned(), kind)).or_insert_with(make).clone()
    }
}

/// Publishes what `source` observes for as long as anyone listens. The first state is there when this returns.
#[must_use]
pub fn publish(mut source: Watch, domains: Domains) -> Latest {
    let observed = source.borrow_and_update().clone();
    let (sender, receiver) = watch::channel(Arc::new(Published::new(1, observed, &domains)));
    tokio::spawn(async move {
        let mut generation = 1;
        while source.changed().await.is_ok() {
            generation += 1;
            let observed = source.borrow_and_update().clone();
            let published = Published::new(generation, observed, &domains);
            tracing::info!(generation, problems = published.problems.len(), "mesh rebuilt");
            if sender.send(Arc::new(published)).is_err() {
                return;
            }
        }
    });
    receiver
}
