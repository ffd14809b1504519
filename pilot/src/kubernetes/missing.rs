//! Pods without a sidecar that should have one: each is told once, as an Event of the pod.

use std::collections::BTreeSet;

use api::{Key, Kind, ObjectRef};
use injector::STATUS;
use injector::missing::Missing;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use serde_json::Value;
use tokio::sync::watch;

use super::events::{Teller, reference};
use super::{InjectorSettings, marks};
use crate::push::{Latest, Published};

const REASON: &str = "SidecarMissing";

/// By uid and rule: a pod is told of again when another rule says so.
type Told = (Option<String>, String);

/// Tells for as long as the process lives, whenever `leading`.
pub(super) async fn tell(
    client: Client,
    mut latest: Latest,
    mut settings: InjectorSettings,
    mut leading: watch::Receiver<bool>,
) {
    let teller = Teller::new(client);
    let mut told: BTreeSet<Told> = BTreeSet::new();
    loop {
        if *leading.borrow_and_update() {
            let published = latest.borrow_and_update().clone();
            let said = settings.borrow_and_update().clone();
            let mut now = BTreeSet::new();
            for (pod, why) in missing(&published, &said) {
                let this = (pod.uid.clone(), why.clone());
                if told.contains(&this) || teller.warn(&pod, (REASON, "Inject", why)).await {
                    now.insert(this);
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

/// Each with what there is to say of it.
fn missing(published: &Published, settings: &injector::Settings) -> Vec<(ObjectReference, String)> {
    let objects = &published.observed.objects;
    let without = objects.pods.iter().filter(|(_, pod)| !pod.metadata.annotations.contains_key(STATUS));
    without
        .filter_map(|(key, pod)| {
            let namespace = objects.namespaces.get(&Key::new("", key.namespace.clone()))?;
            let shown = serde_json::to_value(&**pod).unwrap_or(Value::Null);
            let marks = marks::of_watched(&namespace.metadata);
            let missing = Missing::of(&shown, &key.namespace, &marks, settings)?;
            Some((reference(published, &ObjectRef::new(Kind::Pod, key))?, missing.to_string()))
        })
        .collect()
}
