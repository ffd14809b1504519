//! Where commands read objects: manifests, or else a cluster.

use std::path::PathBuf;

use pilot::kubernetes::Cluster;
use pilot::source::{Observed, files, kubernetes};

/// Where objects are read.
#[derive(Debug, clap::Args)]
pub(crate) struct Objects {
    /// A folder of manifests, or one manifest; may be given more than once.
    #[arg(short = 'f', long = "filename", value_name = "DIR")]
    files: Vec<PathBuf>,
    /// The cluster, where no manifests are given; by default that of KUBECONFIG, and without one the current folder is read.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// The namespace that is meant.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

impl Objects {
    /// All objects there are, whatever their namespace.
    pub(crate) fn observed(&self) -> anyhow::Result<Observed> {
        match (self.files.as_slice(), &self.kubeconfig) {
            ([], Some(kubeconfig)) => crate::runtime()?.block_on(async {
                let cluster = Cluster::connect(Some(kubeconfig), "").await?;
                let seen = kubernetes::watch(cluster.client).await;
                let observed = seen.borrow().as_ref().clone();
                Ok(observed)
            }),
            ([], None) => Ok(files::read_once(&[PathBuf::from(".")])?),
            (files, _) => Ok(files::read_once(files)?),
        }
    }
}
