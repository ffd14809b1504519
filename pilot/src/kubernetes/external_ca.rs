//! The roots of a CA that signs for pods in the pilot's place: a ConfigMap of that CA's, in our own namespace. Where it cannot be read,
//! nothing but the pilot's own roots is trusted. Roots that were read once stay trusted while the installation names their ConfigMap.

use std::pin::pin;

use anyhow::Context;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch::{self, Receiver, Sender};

use super::{Cluster, InjectorSettings};
use crate::tls;

/// As in the ConfigMaps of Istio's and of our own.
const KEY: &str = "root-cert.pem";

/// The roots of one ConfigMap.
struct Roots {
    /// Which; `None`: there are no others than the pilot's own.
    name: Option<String>,
    namespace: String,
    trusted: Sender<String>,
    /// What is trusted came from this ConfigMap.
    held: bool,
}

/// What is trusted when this returns is what is there now, so that a pilot that begins anew trusts no less than before.
pub(super) async fn watch(cluster: &Cluster, settings: InjectorSettings) -> anyhow::Result<Receiver<String>> {
    let (trusted, receiver) = watch::channel(String::new());
    let name = settings.borrow().ca.roots().map(str::to_owned);
    let mut roots = Roots { name: name.clone(), namespace: cluster.namespace.clone(), trusted, held: false };
    if let Some(name) = name {
        let map = maps(cluster).get_opt(&name).await;
        roots.take(map.with_context(|| format!("ConfigMap {name} in namespace {}", cluster.namespace))?.as_ref());
    }
    tokio::spawn(follow(cluster.clone(), settings, roots));
    Ok(receiver)
}

fn maps(cluster: &Cluster) -> Api<ConfigMap> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

/// Follows whatever ConfigMap the installation names.
async fn follow(cluster: Cluster, mut settings: InjectorSettings, mut roots: Roots) {
    loop {
        tokio::select! {
            () = roots.follow(&cluster) => return,
            changed = settings.changed() => if changed.is_err() { return },
        }
        let now = settings.borrow_and_update().ca.roots().map(str::to_owned);
        if now != roots.name {
            roots.held = false;
            roots.name = now;
        }
    }
}

impl Roots {
    async fn follow(&mut self, cluster: &Cluster) {
        let Some(name) = &self.name else {
            if self.trust(String::new()) {
                tracing::info!("no roots but the pilot's own are trusted any longer");
            }
            return std::future::pending().await;
        };
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = pin!(watcher(maps(cluster), config).default_backoff());
        let mut seen = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => seen = false,
                Ok(Event::Apply(map) | Event::InitApply(map)) => {
                    seen = true;
                    self.take(Some(&map));
                }
                Ok(Event::InitDone) if seen => {}
                Ok(Event::InitDone | Event::Delete(_)) => self.take(None),
                Err(error) => tracing::warn!(%error, "the external CA's roots stay as they were"),
            }
        }
    }

    fn take(&mut self, map: Option<&ConfigMap>) {
        let what = format!("ConfigMap {} in namespace {}", self.name.as_deref().unwrap_or_default(), self.namespace);
        match read(map) {
            Ok(roots) => {
                if self.trust(roots) {
                    tracing::info!("the roots of {what} are trusted beside the pilot's own");
                }
                self.held = true;
            }
            Err(why) if self.held => tracing::error!("{what} {why}: the roots that it had stay trusted"),
            Err(why) => {
                self.trust(String::new());
                tracing::error!(
                    "{what} {why}: nobody trusts certificates of the external CA (ca.address) until its roots are there. See whether \
                     that CA's controller runs; if its ConfigMap has another name, install with ca.rootsConfigMap"
                );
            }
        }
    }

    /// Whether that is a change.
    fn trust(&self, roots: String) -> bool {
        self.trusted.send_if_modified(|trusted| {
            *trusted != roots && {
                *trusted = roots;
                true
            }
        })
    }
}

/// The roots that a ConfigMap holds, or what is wrong with it.
fn read(map: Option<&ConfigMap>) -> Result<String, String> {
    let map = map.ok_or("is not there")?;
    let text = map.data.as_ref().and_then(|data| data.get(KEY)).ok_or_else(|| format!("has no key {KEY}"))?;
    match tls::roots(text) {
        Ok(roots) if roots.is_empty() => Err(format!("has no certificate in {KEY}")),
        Ok(_) => Ok(text.clone()),
        Err(error) => Err(format!("has no roots in {KEY}: {error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_no_root_is_told() {
        let map = |key: &str, text: &str| ConfigMap {
            data: Some(BTreeMap::from([(key.to_owned(), text.to_owned())])),
            ..ConfigMap::default()
        };
        let key = rcgen::KeyPair::generate().unwrap();
        let root = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        let broken = "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n";
        for (map, told) in [
            (None, Err("is not there")),
            (Some(ConfigMap::default()), Err("has no key")),
            (Some(map("ca.crt", &root)), Err("has no key root-cert.pem")),
            (Some(map(KEY, "")), Err("has no certificate")),
            (Some(map(KEY, broken)), Err("has no roots")),
            (Some(map(KEY, &(root.clone() + broken))), Err("has no roots")),
            (Some(map(KEY, &root)), Ok(root.as_str())),
        ] {
            match (read(map.as_ref()), told) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
