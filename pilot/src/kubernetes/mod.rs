//! What the pilot does in a cluster beside watching objects: it gives namespaces the mesh's roots and webhooks their CA, and writes
//! back what it thinks of objects. Only the pilot that holds the lease writes.

mod bundle;
mod events;
mod external_ca;
mod front_proxy;
mod lease;
pub mod marks;
mod missing;
mod namespaces;
mod parents;
mod roots;
mod settings;
mod status;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use daemon::Shutdown;
use injector::Marks;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PatchParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ca::Authority;
use crate::push::Latest;

pub use front_proxy::FrontProxy;
pub use namespaces::Known as KnownNamespaces;
pub use settings::{InjectorSettings, read as read_settings};

/// Who writes, as the API server records it.
const MANAGER: &str = "outrigger-pilot";

/// How long an answer about a namespace may take; the API server waits 10 s for a webhook's.
const NAMESPACE_TIMEOUT: Duration = Duration::from_secs(3);

/// How objects of others are patched.
fn patching() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

/// A cluster, and the namespace in it where everything of ours stands.
#[derive(Clone)]
pub struct Cluster {
    /// How it is asked.
    pub client: Client,
    /// `outrigger-system`, or another.
    pub namespace: String,
}

impl Cluster {
    /// The cluster of a kubeconfig, or the one that this pod is in.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read or says nothing usable.
    pub async fn connect(kubeconfig: Option<&Path>, namespace: &str) -> anyhow::Result<Self> {
        let config = match kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path).with_context(|| format!("kubeconfig {}", path.display()))?;
                Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?
            }
            None => Config::incluster().context("this is no pod: name a cluster by --kubeconfig")?,
        };
        Ok(Self { client: Client::try_from(config)?, namespace: namespace.to_owned() })
    }

    /// Puts the CA into the configurations by which the API server calls the pilot, those of admission only if it is the injector too,
    /// and sees to it that it stays there. It is there when this returns, if the configurations are.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn keep_webhooks(&self, authority: &Authority, admission: bool) -> anyhow::Result<()> {
        bundle::keep(self.client.clone(), authority.clone(), admission).await
    }

    /// Who asks for users.
    ///
    /// # Errors
    /// When the API server does not tell.
    pub async fn front_proxy(&self) -> anyhow::Result<FrontProxy> {
        front_proxy::read(&self.client).await
    }

    /// Follows the roots of the CA that signs for pods in the pilot's place, in PEM; none where the installation names no such CA.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn external_roots(&self, settings: InjectorSettings) -> anyhow::Result<watch::Receiver<String>> {
        external_ca::watch(self, settings).await
    }

    /// Follows what the installation says of sidecars.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn settings(&self) -> anyhow::Result<InjectorSettings> {
        settings::watch(self).await
    }

    /// The labels and annotations of a namespace as they are now; `None` when that cannot be told.
    pub async fn marks(&self, namespace: &str) -> Option<Marks> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let told = tokio::time::timeout(NAMESPACE_TIMEOUT, namespaces.get_metadata(namespace)).await;
        Some(marks::of(told.ok()?.ok()?.metadata))
    }

    /// Writes back until asked to stop, whenever it holds the lease. The task that is returned ends once the lease is given back.
    pub fn write_back(
        &self,
        latest: Latest,
        authority: Authority,
        settings: InjectorSettings,
        identity: String,
        shutdown: &Shutdown,
    ) -> JoinHandle<()> {
        let (leading, lease) = lease::hold(self.clone(), identity, shutdown.clone());
        tokio::spawn(roots::publish(self.client.clone(), latest.clone(), authority, leading.clone()));
        tokio::spawn(status::write(self.client.clone(), latest.clone(), leading.clone()));
        tokio::spawn(missing::tell(self.client.clone(), latest.clone(), settings, leading.clone()));
        tokio::spawn(events::tell(self.client.clone(), latest, leading));
        lease
    }
}
