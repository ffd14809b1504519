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
use crate::plan::{self, ProxyClass};
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
    /// Clusters and endpoints, which all proxies have.
    shared: OnceLock<ResourceSet>,
    /// Route tables by namespace of the callers.
    tables: Mutex<HashMap<String, ResourceSet>>,
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
        let own = generate::resources(&plan::own(&self.mesh, class)?);
        let mut set = self.shared.get_or_init(|| self.make_shared()).clone();
        set.extend(own.iter().cloned());
        set.extend(self.table(&class.workload.namespace).iter().cloned());
        Some(set)
    }

    fn make_shared(&self) -> ResourceSet {
        let clusters = ProxyPlan { clusters: plan::shared(&self.mesh), ..ProxyPlan::default() };
        let mut set = generate::resources(&clusters);
        set.extend(generate::endpoints(&plan::endpoints(&self.mesh)).iter().cloned());
        set
    }

    fn table(&self, namespace: &str) -> ResourceSet {
        let mut tables = self.tables.lock();
        let made = tables.entry(namespace.to_owned()).or_insert_with(|| {
            let routes = vec![plan::namespace(&self.mesh, namespace)];
            generate::resources(&ProxyPlan { routes, ..ProxyPlan::default() })
        });
        made.clone()
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
