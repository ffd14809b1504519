//! ConfigMap `outrigger-ca-root` in every namespace: what sidecars trust before they know anything else.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;

use super::MANAGER;
use crate::ca::Authority;
use crate::push::Latest;

const NAME: &str = "outrigger-ca-root";
const KEY: &str = "root-cert.pem";
/// What could not be written is tried again after this long.
const AGAIN: Duration = Duration::from_secs(2);

/// Publishes for as long as the process lives, whenever `leading`.
pub(super) async fn publish(
    client: Client,
    mut latest: Latest,
    mut authority: Authority,
    mut leading: watch::Receiver<bool>,
) {
    let maps: Api<ConfigMap> = Api::all(client.clone());
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let mut events = pin!(watcher(maps, config).default_backoff());
    // What each namespace has, as far as it was seen.
    let mut there: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let mut again = false;
        if *leading.borrow() {
            let roots = authority.borrow().roots().to_owned();
            let wanting: Vec<String> = {
                let published = latest.borrow();
                let namespaces = published.observed.objects.namespaces.keys().map(|key| key.name.clone());
                namespaces.filter(|namespace| there.get(namespace) != Some(&roots)).collect()
            };
            for namespace in wanting {
                match write(&client, &namespace, &roots).await {
                    Ok(()) => drop(there.insert(namespace, roots.clone())),
                    // A namespace that is going away takes nothing any longer.
                    Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                        tracing::debug!(namespace, "no roots there: {}", status.message);
                        there.insert(namespace, roots.clone());
                    }
                    Err(error) => {
                        tracing::warn!(namespace, %error, "the roots are not there yet");
                        again = true;
                    }
                }
            }
        }
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::Apply(map) | Event::InitApply(map))) => {
                    let text = map.data.and_then(|mut data| data.remove(KEY)).unwrap_or_default();
                    there.insert(map.metadata.namespace.unwrap_or_default(), text);
                }
                Some(Ok(Event::Delete(map))) => drop(there.remove(&map.metadata.namespace.unwrap_or_default())),
                Some(Ok(_) | Err(_)) => {}
                None => return,
            },
            changed = latest.changed() => if changed.is_err() { return },
            changed = authority.changed() => if changed.is_err() { return },
            changed = leading.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if again => {}
        }
    }
}

async fn write(client: &Client, namespace: &str, roots: &str) -> Result<(), kube::Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "labels": {"app.kubernetes.io/part-of": "outrigger"}},
        "data": {KEY: roots},
    });
    maps.patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(map)).await.map(drop)
}
