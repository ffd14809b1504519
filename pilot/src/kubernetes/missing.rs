//! Pods without a sidecar that should have one: each is told once, as an Event of the pod.

use std::collections::BTreeSet;

use api::Key;
use injector::missing::Missing;
use injector::{Marks, STATUS};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde_json::Value;
use tokio::sync::watch;

use super::{InjectorSettings, MANAGER};
use crate::push::{Latest, Published};

const REASON: &str = "SidecarMissing";

/// Tells for as long as the process lives, whenever `leading`.
pub(super) async fn tell(
    client: Client,
    mut latest: Latest,
    mut settings: InjectorSettings,
    mut leading: watch::Receiver<bool>,
) {
    let recorder = Recorder::new(client, Reporter { controller: MANAGER.to_owned(), instance: None });
    let mut told = BTreeSet::new();
    loop {
        if *leading.borrow_and_update() {
            let published = latest.borrow_and_update().clone();
            let said = settings.borrow_and_update().clone();
            let mut now = BTreeSet::new();
            for (pod, reference, missing) in missing(&published, &said) {
                if told.contains(&pod) || publish(&recorder, &reference, &missing).await {
                    now.insert(pod);
                }
            }
            told = now;
        }
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return },
            changed = settings.changed() => if changed.is_err() { return },
            changed = leading.changed() => if changed.is_err() { return },
        }
    }
}

/// By uid and rule: a pod is told of again when another rule says so.
type Told = (Option<String>, String);

fn missing(published: &Published, settings: &injector::Settings) -> Vec<(Told, ObjectReference, Missing)> {
    let objects = &published.observed.objects;
    let without = objects.pods.iter().filter(|(_, pod)| !pod.metadata.annotations.contains_key(STATUS));
    without
        .filter_map(|(key, pod)| {
            let namespace = objects.namespaces.get(&Key::new("", key.namespace.clone()))?;
            let shown = serde_json::to_value(&**pod).unwrap_or(Value::Null);
            let missing = Missing::of(&shown, &key.namespace, &marks(&namespace.metadata), settings)?;
            let reference = ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(key.name.clone()),
                namespace: Some(key.namespace.clone()),
                uid: pod.metadata.uid.clone(),
                ..ObjectReference::default()
            };
            Some(((pod.metadata.uid.clone(), missing.to_string()), reference, missing))
        })
        .collect()
}

/// The labels and annotations of an object that was read.
pub(crate) fn marks(metadata: &api::ObjectMeta) -> Marks {
    Marks { labels: metadata.labels.clone(), annotations: metadata.annotations.clone() }
}

async fn publish(recorder: &Recorder, pod: &ObjectReference, missing: &Missing) -> bool {
    let event = Event {
        type_: EventType::Warning,
        reason: REASON.to_owned(),
        note: Some(missing.to_string()),
        action: "Inject".to_owned(),
        secondary: None,
    };
    let published = recorder.publish(&event, pod).await;
    if let Err(error) = &published {
        tracing::warn!(pod = ?pod.name, %error, "no Event");
    }
    published.is_ok()
}
