//! Everything of ours out of a cluster, but for the definitions of kinds: objects of these kinds are the users'.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use pilot::kubernetes::Cluster;
use serde_json::Value;
use tokio::time::sleep;

use super::{Profile, apply, charts, values};

/// What the pilot makes in every namespace.
const ROOTS: &str = "outrigger-ca-root";
const LOOK: Duration = Duration::from_millis(300);

/// Takes all out. What calls the pilot goes first, so that nothing waits for what is not there any longer.
pub(super) async fn all(cluster: &Cluster) -> anyhow::Result<()> {
    let values = values::of(Profile::Default, &[], &[])?;
    let mut objects = charts::objects(&values, &cluster.namespace)?;
    objects.retain(|object| object["kind"] != "CustomResourceDefinition" && object["kind"] != "Namespace");
    let calls = |kind: &str| kind.ends_with("WebhookConfiguration") || kind == "APIService";
    objects.sort_by_key(|object| !object["kind"].as_str().is_some_and(calls));
    for object in &objects {
        delete(cluster, object).await?;
    }
    let maps: Api<ConfigMap> = Api::all(cluster.client.clone());
    // Before the roots go, who writes them must have gone.
    namespace(cluster).await?;
    for map in maps.list(&ListParams::default().fields(&format!("metadata.name={ROOTS}"))).await? {
        let namespace = map.metadata.namespace.unwrap_or_default();
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &namespace);
        gone(maps.delete(ROOTS, &DeleteParams::default()).await.map(drop))
            .with_context(|| format!("ConfigMap {ROOTS} in {namespace}"))?;
    }
    Ok(())
}

async fn delete(cluster: &Cluster, object: &Value) -> anyhow::Result<()> {
    let (api, name) = apply::place(&cluster.client, object)?;
    let deleted = api.delete(&name, &DeleteParams::background()).await.map(drop);
    gone(deleted).with_context(|| format!("{} {name}", object["kind"].as_str().unwrap_or_default()))
}

/// The namespace with its Lease and Secrets.
async fn namespace(cluster: &Cluster) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    gone(namespaces.delete(&cluster.namespace, &DeleteParams::default()).await.map(drop))?;
    while namespaces.get_opt(&cluster.namespace).await?.is_some() {
        sleep(LOOK).await;
    }
    Ok(())
}

/// What is not there need not be deleted.
fn gone(deleted: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}
