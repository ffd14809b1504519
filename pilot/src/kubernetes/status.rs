//! What the pilot thinks of objects, in the objects: condition `Accepted` on our kinds and on Gateway API's routes, an annotation on
//! SMI's, which have no status.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::{Key, Kind, ObjectRef, Problem, Reason, Severity};
use jiff::Timestamp;
use kube::api::{DynamicObject, Patch};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{parents, patching};
use crate::push::{Latest, Published};
use crate::source::kubernetes::resource;

const ANNOTATION: &str = "outrigger.dev/problems";
const GATEWAY: &str = "gateway.networking.k8s.io";
const AGAIN: Duration = Duration::from_secs(2);

/// What is written into one object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    reason: String,
    message: String,
    accepted: bool,
    /// Of a route: the reason and the message, when not all of its references are to something.
    unresolved: Option<(&'static str, String)>,
    generation: Option<i64>,
}

type Verdicts = BTreeMap<(Kind, Key), Verdict>;

/// Writes for as long as the process lives, whenever `leading`.
pub(super) async fn write(client: Client, mut latest: Latest, mut leading: watch::Receiver<bool>) {
    let mut written = Verdicts::new();
    loop {
        let mut again = false;
        if *leading.borrow() {
            let published = latest.borrow_and_update().clone();
            let wanted = verdicts(&published);
            written.retain(|of, _| wanted.contains_key(of));
            for (of, verdict) in &wanted {
                if written.get(of) == Some(verdict) {
                    continue;
                }
                match write_one(&client, of, verdict, &published).await {
                    Ok(()) => drop(written.insert(of.clone(), verdict.clone())),
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    Err(error) => {
                        tracing::warn!(kind = of.0.as_str(), object = %of.1, %error, "no status written");
                        again = true;
                    }
                }
            }
        }
        tokio::select! {
            changed = latest.changed() => if changed.is_err() { return },
            changed = leading.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN), if again => {}
        }
    }
}

/// What there is to say of every object of ours, SMI's and Gateway API's.
fn verdicts(published: &Published) -> Verdicts {
    let objects = &published.observed.objects;
    let mut found = Verdicts::new();
    let mut problems: BTreeMap<ObjectRef, Vec<&Problem>> = BTreeMap::new();
    for problem in published.problems.iter().filter(|problem| problem.severity() != Severity::Note) {
        problems.entry(problem.object.clone()).or_default().push(problem);
    }
    let kinds = Kind::ALL.iter().filter(|kind| written_to(**kind));
    let unread: BTreeSet<(Kind, Key)> = problems.keys().flat_map(keys).filter(|(kind, _)| written_to(*kind)).collect();
    let read = kinds.flat_map(|kind| objects.keys(*kind).into_iter().map(|key| (*kind, key.clone())));
    for (kind, key) in read.chain(unread) {
        let told = problems.get(&ObjectRef::new(kind, &key)).map(Vec::as_slice).unwrap_or_default();
        let generation = published.observed.metadata(kind, &key).and_then(|metadata| metadata.generation);
        found.insert((kind, key), verdict(kind, told, generation));
    }
    found
}

fn written_to(kind: Kind) -> bool {
    matches!(kind.group(), "mesh.outrigger.dev" | GATEWAY) || kind.group().ends_with("smi-spec.io")
}

/// `TCPRoute` is one of SMI's kinds and one of Gateway API's; whichever is not there is not written to.
fn keys(object: &ObjectRef) -> impl Iterator<Item = (Kind, Key)> {
    let key = Key::new(object.namespace.clone(), object.name.clone());
    Kind::named(&object.kind).map(move |kind| (kind, key.clone()))
}

fn verdict(kind: Kind, problems: &[&Problem], generation: Option<i64>) -> Verdict {
    let route = kind.group() == GATEWAY;
    let (lost, problems): (Vec<&Problem>, Vec<&Problem>) =
        problems.iter().partition(|problem| route && parents::lost(problem).is_some());
    let unresolved = lost.first().and_then(|problem| Some((parents::lost(problem)?, problem.message.clone())));
    let worst = problems.iter().min_by_key(|problem| problem.severity());
    let refused = |problem: &&&Problem| problem.severity() == Severity::Error || problem.reason == Reason::Conflict;
    let message: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.reason, problem.message)).collect();
    Verdict {
        reason: worst.map_or("Accepted", |problem| problem.reason.as_str()).to_owned(),
        message: message.join("; "),
        accepted: !problems.iter().any(|problem| refused(&problem)),
        unresolved,
        generation,
    }
}

async fn write_one(
    client: &Client,
    (kind, key): &(Kind, Key),
    verdict: &Verdict,
    published: &Published,
) -> Result<(), kube::Error> {
    let version = kind.versions().first().copied().unwrap_or_default();
    let resource = resource(*kind, version);
    let api: Api<DynamicObject> = match kind.namespaced() {
        true => Api::namespaced_with(client.clone(), &key.namespace, &resource),
        false => Api::all_with(client.clone(), &resource),
    };
    if kind.group().ends_with("smi-spec.io") {
        return annotate(&api, *kind, key, verdict, published).await;
    }
    let Some(object) = api.get_opt(&key.name).await? else { return Ok(()) };
    let status = match kind.group() {
        GATEWAY => json!({"parents": parents::of(&object.data, |before| of_route(verdict, before))}),
        _ => json!({"conditions": [accepted(verdict, &object.data["status"]["conditions"])]}),
    };
    api.patch_status(&key.name, &patching(), &Patch::Merge(json!({"status": status}))).await.map(drop)
}

/// An object with nothing to say of it and no annotation of ours is left alone.
async fn annotate(
    api: &Api<DynamicObject>,
    kind: Kind,
    key: &Key,
    verdict: &Verdict,
    published: &Published,
) -> Result<(), kube::Error> {
    let value = (!verdict.message.is_empty()).then_some(verdict.message.as_str());
    let object = published.observed.objects.get(kind, key);
    let before = object.as_ref().and_then(|object| object.metadata().annotations.get(ANNOTATION));
    if object.is_some() && before.map(String::as_str) == value {
        return Ok(());
    }
    let patch = json!({"metadata": {"annotations": {ANNOTATION: value}}});
    api.patch(&key.name, &patching(), &Patch::Merge(patch)).await.map(drop)
}

fn accepted(verdict: &Verdict, before: &Value) -> Value {
    condition("Accepted", verdict.accepted, (&verdict.reason, &verdict.message), verdict.generation, before)
}

/// Source: Gateway API `RouteConditionType`.
fn of_route(verdict: &Verdict, before: &Value) -> Value {
    let (reason, message) = verdict.unresolved.as_ref().map_or(("ResolvedRefs", ""), |(reason, told)| (*reason, told));
    let resolved = verdict.unresolved.is_none();
    json!([
        accepted(verdict, before),
        condition("ResolvedRefs", resolved, (reason, message), verdict.generation, before)
    ])
}

/// The time is kept for as long as the condition stays what it is.
fn condition(name: &str, holds: bool, why: (&str, &str), generation: Option<i64>, before: &Value) -> Value {
    let status = if holds { "True" } else { "False" };
    let mut before = before.as_array().into_iter().flatten();
    let before = before.find(|condition| condition["type"] == name && condition["status"] == status);
    let now = || json!(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    json!({
        "type": name,
        "status": status,
        "reason": why.0,
        "message": why.1,
        "observedGeneration": generation,
        "lastTransitionTime": before.map_or_else(now, |condition| condition["lastTransitionTime"].clone()),
    })
}
