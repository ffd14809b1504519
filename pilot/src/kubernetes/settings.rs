//! What the installation says of sidecars: ConfigMap `outrigger-injector`, and what the server can.

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use injector::Settings;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch::{self, Receiver};

use super::Cluster;

const CONFIG_MAP: &str = "outrigger-injector";
const KEY: &str = "settings.json";
/// Native sidecars are on by default from this minor version on. Source: KEP-753.
const NATIVE_SINCE: u32 = 29;

/// The latest settings.
pub type InjectorSettings = Receiver<Arc<Settings>>;

/// Reads the settings of an installation once; the defaults where there is none.
///
/// # Errors
/// When the API server does not answer.
pub async fn read(cluster: &Cluster) -> anyhow::Result<Settings> {
    let native = has_native(&cluster.client).await?;
    Ok(parse(maps(cluster).get_opt(CONFIG_MAP).await?.as_ref(), cluster, native))
}

fn maps(cluster: &Cluster) -> Api<ConfigMap> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}

pub(super) async fn watch(cluster: &Cluster) -> anyhow::Result<InjectorSettings> {
    let first = read(cluster).await?;
    let native = first.server_has_native;
    let (sender, receiver) = watch::channel(Arc::new(first));
    let cluster = cluster.clone();
    tokio::spawn(async move {
        let config = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
        let mut events = pin!(watcher(maps(&cluster), config).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(map) | Event::InitApply(map)) => {
                    drop(sender.send_replace(Arc::new(parse(Some(&map), &cluster, native))));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the injector's settings stay as they were"),
            }
        }
    });
    Ok(receiver)
}

fn parse(map: Option<&ConfigMap>, cluster: &Cluster, native: bool) -> Settings {
    let text = map.and_then(|map| map.data.as_ref()?.get(KEY));
    let read = text.map(|text| serde_json::from_str(text));
    let settings = match read {
        Some(Ok(settings)) => settings,
        Some(Err(error)) => {
            tracing::error!(%error, "ConfigMap {CONFIG_MAP} cannot be read: the defaults hold");
            Settings::default()
        }
        None => Settings::default(),
    };
    Settings { server_has_native: native, system_namespace: cluster.namespace.clone(), ..settings }
}

async fn has_native(client: &Client) -> anyhow::Result<bool> {
    let minor = client.apiserver_version().await?.minor;
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse().unwrap_or(0) >= NATIVE_SINCE)
}
