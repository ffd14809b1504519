//! Events: each problem is told once, where `kubectl describe` shows it.

use std::collections::BTreeSet;

use api::{ObjectRef, Severity};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::watch;

use super::MANAGER;
use crate::push::{Latest, Published};

/// What was told of an object.
type Told = (ObjectRef, &'static str, String);

/// Tells for as long as the process lives, whenever `leading`.
pub(super) async fn tell(client: Client, mut latest: Latest, mut leading: watch::Receiver<bool>) {
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: None };
    let recorder = Recorder::new(client, reporter);
    let mut told: BTreeSet<Told> = BTreeSet::new();
    loop {
        if *leading.borrow() {
            let published = latest.borrow_and_update().clone();
            let mut now = BTreeSet::new();
            for problem in published.problems.iter().filter(|problem| problem.severity() != Severity::Note) {
                let Some(reference) = reference(&published, &problem.object) else { continue };
                let this = (problem.object.clone(), problem.reason.as_str(), problem.message.clone());
                if !told.contains(&this) {
                    let event = Event {
                        type_: EventType::Warning,
                        reason: problem.reason.as_str().to_owned(),
                        note: Some(problem.message.chars().take(1000).collect()),
                        action: "Accept".to_owned(),
                        secondary: None,
                    };
                    if let Err(error) = recorder.publish(&event, &reference).await {
                        tracing::warn!(object = %problem.object, %error, "no Event");
                        continue;
                    }
                }
                now.insert(this);
            }
            told = now;
        }
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return },
            changed = leading.changed() => if changed.is_err() { return },
        }
    }
}

/// An object as an Event names it, be it read or not; `None` for what is none.
fn reference(published: &Published, object: &ObjectRef) -> Option<ObjectReference> {
    let key = api::Key::new(object.namespace.clone(), object.name.clone());
    let observed = &published.observed;
    let (kind, found) = api::Kind::named(&object.kind).find_map(|kind| Some((kind, observed.metadata(kind, &key)?)))?;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Some(ObjectReference {
        api_version: Some(kind.api_version()),
        kind: Some(object.kind.clone()),
        name: Some(object.name.clone()),
        namespace: some(&object.namespace),
        uid: found.uid,
        ..ObjectReference::default()
    })
}
