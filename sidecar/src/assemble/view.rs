//! What the admin pages show of the configuration, put together when somebody asks.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use crate::cluster::{Cluster, HostSet};
use crate::listener::Listener;
use crate::tls::SecretSlot;

/// A resource as it came.
#[derive(Clone)]
pub struct Shown {
    pub name: String,
    pub encoded: Vec<u8>,
    pub version: String,
    pub updated: SystemTime,
}

/// Resources that came by xDS, those that serve and those that wait for something.
#[derive(Clone, Default)]
pub struct Resources {
    pub active: Vec<Shown>,
    pub warming: Vec<Shown>,
}

/// All configuration at one moment.
#[derive(Default)]
pub struct View {
    pub clusters: Resources,
    pub listeners: Resources,
    pub routes: Vec<Shown>,
    pub secrets: Vec<Shown>,
    /// With their hosts as they are now; true for those of CDS.
    pub hosts: Vec<(Arc<Cluster>, Arc<HostSet>, bool)>,
    pub serving: Vec<Arc<Listener>>,
    /// What TLS contexts use.
    pub certificates: Vec<Arc<SecretSlot>>,
}

/// What the admin asks of the assembly.
pub enum Query {
    View(oneshot::Sender<View>),
    /// Listeners stop accepting.
    Drain {
        inbound_only: bool,
    },
}

/// The admin's way to the assembly.
#[derive(Clone)]
pub struct Queries(pub mpsc::UnboundedSender<Query>);

impl Queries {
    /// Empty while the process ends.
    pub async fn view(&self) -> View {
        let (answer, asked) = oneshot::channel();
        let _ = self.0.send(Query::View(answer));
        asked.await.unwrap_or_default()
    }

    pub fn drain(&self, inbound_only: bool) {
        let _ = self.0.send(Query::Drain { inbound_only });
    }
}
