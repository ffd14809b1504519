//! The CA in the configurations by which the API server calls us: webhooks, conversion of SMI's kinds.

use std::pin::pin;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::StreamExt;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::patching;
use crate::ca::Authority;

/// The label of everything that an installation puts into a cluster.
pub(super) const PART_OF: &str = "app.kubernetes.io/part-of=outrigger";

/// The group of webhooks that let objects in.
const ADMISSION: &str = "admissionregistration.k8s.io";

/// Kinds that hold a CA, and where.
const HOLDERS: [(&str, &str, &str, &str); 4] = [
    (ADMISSION, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
    (ADMISSION, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "v1", "APIService", "apiservices"),
];

pub(super) async fn keep(client: Client, authority: Authority, admission: bool) -> anyhow::Result<()> {
    for (group, version, kind, plural) in HOLDERS.into_iter().filter(|(group, ..)| admission || *group != ADMISSION) {
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: format!("{group}/{version}"),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        for object in api.list(&ListParams::default().labels(PART_OF)).await? {
            put(&api, &object, &authority).await?;
        }
        tokio::spawn(follow(api, authority.clone()));
    }
    Ok(())
}

/// Puts it in again whenever a configuration is written anew, or the CA changes.
async fn follow(api: Api<DynamicObject>, mut authority: Authority) {
    loop {
        let mut events =
            pin!(watcher(api.clone(), watcher::Config::default().labels(PART_OF)).default_backoff().applied_objects());
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(object)) => if let Err(error) = put(&api, &object, &authority).await {
                        tracing::error!(%error, "a webhook's CA stays as it was");
                    },
                    Some(Err(error)) => tracing::warn!(%error, "webhooks are not seen"),
                    None => return,
                },
                changed = authority.changed() => match changed {
                    // Listed anew, each gets the new one.
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
    }
}

async fn put(api: &Api<DynamicObject>, object: &DynamicObject, authority: &Authority) -> Result<(), kube::Error> {
    let bundle = BASE64.encode(authority.borrow().roots());
    let patch = patch(&object.data, &bundle);
    if patch.as_array().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let Ok(patch) = serde_json::from_value(patch) else { return Ok(()) };
    let name = object.metadata.name.as_deref().unwrap_or_default();
    api.patch(name, &patching(), &Patch::Json::<()>(patch)).await.map(drop)
}

/// What must be added where; nothing if all is as it should be.
fn patch(data: &Value, bundle: &str) -> Value {
    let mut operations = Vec::new();
    let mut see = |at: String, client: &Value| {
        if client.is_object() && client["caBundle"] != bundle {
            operations.push(json!({"op": "add", "path": format!("{at}/caBundle"), "value": bundle}));
        }
    };
    for (n, webhook) in data["webhooks"].as_array().into_iter().flatten().enumerate() {
        see(format!("/webhooks/{n}/clientConfig"), &webhook["clientConfig"]);
    }
    if data["spec"]["groupPriorityMinimum"].is_number() {
        see("/spec".to_owned(), &data["spec"]);
    }
    see("/spec/conversion/webhook/clientConfig".to_owned(), &data["spec"]["conversion"]["webhook"]["clientConfig"]);
    Value::Array(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs() {
        let data = json!({"webhooks": [{"clientConfig": {"url": "u"}}, {"clientConfig": {"caBundle": "x"}}]});
        let got = patch(&data, "x");
        assert_eq!(got, json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": "x"}]));
        assert_eq!(patch(&json!({"spec": {"conversion": {"strategy": "None"}}}), "x"), json!([]));
    }
}
