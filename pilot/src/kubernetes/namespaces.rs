//! What the pilot knows of namespaces, for the injector's webhook: as they are in the mesh, and as the API server says.

use api::Key;
use injector::Marks;
use injector::webhook::Namespaces;

use super::{Cluster, marks};
use crate::push::Latest;

/// The mesh, and the cluster that it is read from.
#[derive(Clone)]
pub struct Known {
    /// What was seen last.
    pub latest: Latest,
    /// Who is asked.
    pub cluster: Cluster,
}

impl Namespaces for Known {
    fn seen(&self, namespace: &str) -> Option<Marks> {
        let published = self.latest.borrow();
        let stored = published.observed.objects.namespaces.get(&Key::new("", namespace))?;
        Some(marks::of_watched(&stored.metadata))
    }

    async fn ask(&self, namespace: &str) -> Option<Marks> {
        self.cluster.marks(namespace).await
    }
}
