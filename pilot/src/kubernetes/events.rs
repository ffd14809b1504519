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
    let teller = Teller::new(client);
    let mut told: BTreeSet<Told> = BTreeSet::new();
    loop {
        if *leading.borrow() {
            let published = latest.borrow_and_update().clone();
            let mut now = BTreeSet::new();
            for problem in published.problems.iter().filter(|problem| problem.severity() != Severity::Note) {
                let Some(reference) = reference(&published, &problem.object) else { continue };
                let this = (problem.object.clone(), problem.reason.as_str(), problem.message.clone());
                let warning = || (problem.reason.as_str(), "Accept", problem.message.chars().take(1000).collect());
                if !told.contains(&this) && !teller.warn(&reference, warning()).await {
                    continue;
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

/// Who tells, as the API server records it.
pub(super) struct Teller(Recorder);

impl Teller {
    pub(super) fn new(client: Client) -> Self {
        Self(Recorder::new(client, Reporter { controller: MANAGER.to_owned(), instance: None }))
    }

    /// A warning: its reason, what was being done, and what is wrong. Whether it was told.
    pub(super) async fn warn(&self, object: &ObjectReference, (reason, action, note): (&str, &str, String)) -> bool {
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        let published = self.0.publish(&event, object).await;
        if let Err(error) = &published {
            tracing::warn!(kind = ?object.kind, namespace = ?object.namespace, name = ?object.name, %error, "no Event");
        }
        published.is_ok()
    }
}

/// An object as an Event names it, be it read or not; `None` for what is none.
pub(super) fn reference(published: &Published, object: &ObjectRef) -> Option<ObjectReference> {
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
