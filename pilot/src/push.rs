//! From what a source observes to what proxies are sent: rebuilt at each change, published at once.

use std::collections::HashMap;
use std::sync::Arc;

use api::Problem;
use parking_lot::Mutex;
use tokio::sync::watch;
use xds::ResourceSet;

use crate::generate;
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
    sets: Mutex<HashMap<ProxyClass, Option<ResourceSet>>>,
}

impl Published {
    fn new(generation: u64, observed: Arc<Observed>, domains: &Domains) -> Self {
        let (mesh, more) = mesh::build(&observed.objects, domains);
        let problems = observed.problems.iter().cloned().chain(more).collect();
        Self { generation, observed, mesh, problems, sets: Mutex::default() }
    }

    /// What proxies of a class are sent; `None` for a workload that does not exist. Made once for all proxies of the class.
    pub fn resources(&self, class: &ProxyClass) -> Option<ResourceSet> {
        let mut sets = self.sets.lock();
        sets.entry(class.clone())
            .or_insert_with(|| {
                let mut set = generate::resources(&plan::build(&self.mesh, class)?);
                set.extend(generate::endpoints(&plan::endpoints(&self.mesh, class)).iter().cloned());
                Some(set)
            })
            .clone()
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
