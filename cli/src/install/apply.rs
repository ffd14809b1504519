//! Objects → a cluster, by server-side apply: what others have set of them stays.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use pilot::kubernetes::Cluster;
use serde_json::Value;
use tokio::time::{Instant, sleep};

const MANAGER: &str = "outrigger";
/// How long the server may take to know a kind that was just defined.
const KIND: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(200);

/// Applies all objects in their order.
pub(super) async fn all(cluster: &Cluster, objects: &[Value]) -> anyhow::Result<()> {
    for object in objects {
        one(&cluster.client, object).await?;
    }
    Ok(())
}

/// Until its pilot serves and its webhooks are trusted.
pub(super) async fn served(cluster: &Cluster, objects: &[Value]) -> anyhow::Result<()> {
    if objects.iter().any(|object| object["kind"] == "Deployment") {
        let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        while !rolled_out(&deployments.get("outrigger-pilot").await?) {
            sleep(LOOK).await;
        }
    }
    for object in objects.iter().filter(|object| object["webhooks"].is_array()) {
        let (api, name) = place(&cluster.client, object)?;
        loop {
            let there = api.get(&name).await?;
            let webhooks = there.data["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
            if webhooks.iter().all(|webhook| webhook["clientConfig"].get("caBundle").is_some()) {
                break;
            }
            sleep(LOOK).await;
        }
    }
    Ok(())
}

/// Source: `kubectl rollout status`.
fn rolled_out(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let Some(status) = &deployment.status else { return false };
    let seen = status.observed_generation >= deployment.metadata.generation;
    let all = |count: Option<i32>| count.unwrap_or(0) == wanted;
    seen && all(status.updated_replicas) && all(status.replicas) && all(status.available_replicas)
}

async fn one(client: &Client, object: &Value) -> anyhow::Result<()> {
    let (api, name) = place(client, object)?;
    let what = || format!("{} {name}", object["kind"].as_str().unwrap_or_default());
    let params = PatchParams::apply(MANAGER).force();
    let end = Instant::now() + KIND;
    loop {
        match api.patch(&name, &params, &Patch::Apply(object)).await {
            Ok(_) => return Ok(()),
            // The kind was defined a moment ago, or the namespace made.
            Err(kube::Error::Api(status)) if status.code == 404 && Instant::now() < end => sleep(LOOK).await,
            Err(error) => return Err(error).with_context(what),
        }
    }
}

/// Where an object is.
pub(super) fn place(client: &Client, object: &Value) -> anyhow::Result<(Api<DynamicObject>, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let lower = kind.to_lowercase();
    let plural = match lower.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if lower.ends_with('s') => format!("{lower}es"),
        None => format!("{lower}s"),
    };
    let resource = ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.clone(),
        kind,
        plural,
    };
    let name = text(&object["metadata"]["name"]);
    let api = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    Ok((api, name))
}
