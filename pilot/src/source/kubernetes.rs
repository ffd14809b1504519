//! Objects of a Kubernetes API server, watched: one list and watch for each kind, all of them together one state.
//!
//! Kinds whose definitions are not installed have no objects until they are. While the server is away, what was seen last
//! goes on serving.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use api::manifest::{self, Manifest};
use api::{Key, Kind, ObjectMeta, Objects, Problem};
use futures_util::StreamExt;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Observed, Watch};

/// How often to look whether a kind has been installed meanwhile.
const ABSENT: Duration = Duration::from_secs(2);
/// A change is taken once nothing happened for this long …
const QUIET: Duration = Duration::from_millis(10);
/// … or once it waited for this long.
const PATIENCE: Duration = Duration::from_millis(100);
/// Changes that wait to be taken.
const QUEUE: usize = 1024;

/// Watches all kinds for as long as anyone listens. Returns once every kind has been listed, however long that takes: a
/// half-known mesh would take endpoints away.
pub async fn watch(client: Client) -> Watch {
    let (sender, changes) = mpsc::channel(QUEUE);
    for kind in Kind::ALL {
        tokio::spawn(follow(client.clone(), *kind, sender.clone()));
    }
    let mut state = State { changes, objects: Objects::default(), problems: BTreeMap::new(), waiting: BTreeMap::new() };
    state.waiting.extend(Kind::ALL.iter().map(|kind| (*kind, BTreeSet::new())));
    while !state.waiting.is_empty() {
        let Some(change) = state.changes.recv().await else { break };
        state.take(change);
    }
    tracing::info!("all kinds are listed");
    let (sender, receiver) = watch::channel(Arc::new(state.observed()));
    tokio::spawn(state.publish(sender));
    receiver
}

/// What happened to the objects of a kind.
enum Change {
    /// All of them are about to be listed.
    Listing(Kind),
    /// All have been.
    Listed(Kind),
    Applied(Kind, Box<Manifest>, Box<ObjectMeta>),
    Deleted(Kind, Key),
    /// The server does not know the kind.
    Absent(Kind),
}

/// Watches one kind, in the newest version that the server has, until nobody listens.
async fn follow(client: Client, kind: Kind, sender: mpsc::Sender<Change>) {
    loop {
        for version in kind.versions() {
            if follow_version(&client, kind, version, &sender).await.is_err() {
                return;
            }
        }
        if sender.send(Change::Absent(kind)).await.is_err() {
            return;
        }
        sleep(ABSENT).await;
    }
}

/// Nobody listens any longer.
struct Closed;

/// Returns when the server does not have the kind in this version.
async fn follow_version(
    client: &Client,
    kind: Kind,
    version: &str,
    sender: &mpsc::Sender<Change>,
) -> Result<(), Closed> {
    let resource = resource(kind, version);
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let change = match event {
            Ok(Event::Init) => Change::Listing(kind),
            Ok(Event::InitDone) => Change::Listed(kind),
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                let metadata = metadata(&object);
                Change::Applied(kind, Box::new(read(&resource, object)), Box::new(metadata))
            }
            Ok(Event::Delete(object)) => Change::Deleted(kind, key(&object)),
            Err(error) if is_absent(&error) => return Ok(()),
            Err(error) => {
                tracing::warn!(kind = kind.as_str(), %error, "objects stay as they were seen last");
                continue;
            }
        };
        sender.send(change).await.map_err(|_| Closed)?;
    }
    Ok(())
}

/// How the API server calls a kind.
#[must_use]
pub fn resource(kind: Kind, version: &str) -> ApiResource {
    let group = kind.group().to_owned();
    ApiResource {
        api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
        group,
        version: version.to_owned(),
        kind: kind.as_str().to_owned(),
        plural: kind.plural(),
    }
}

fn is_absent(error: &watcher::Error) -> bool {
    let error = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error,
        _ => return false,
    };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn key(object: &DynamicObject) -> Key {
    let metadata = &object.metadata;
    Key::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// Of an object that perhaps cannot be read: what names it, and its version.
fn metadata(object: &DynamicObject) -> ObjectMeta {
    let Key { namespace, name } = key(object);
    let (generation, uid) = (object.metadata.generation, object.metadata.uid.clone());
    ObjectMeta { namespace, name, generation, uid, ..ObjectMeta::default() }
}

/// Items of a list do not say what they are.
fn read(resource: &ApiResource, mut object: DynamicObject) -> Manifest {
    object.metadata.managed_fields = None;
    // An object that has been read from JSON can be written as JSON.
    let mut json = serde_json::to_value(&object).unwrap_or_default();
    if let Some(fields) = json.as_object_mut() {
        fields.insert("apiVersion".to_owned(), resource.api_version.clone().into());
        fields.insert("kind".to_owned(), resource.kind.clone().into());
    }
    manifest::read_json(json)
}

/// What was seen last.
struct State {
    changes: mpsc::Receiver<Change>,
    objects: Objects,
    /// Of what cannot be read, with what names it.
    problems: BTreeMap<(Kind, Key), (Vec<Problem>, ObjectMeta)>,
    /// Kinds that are being listed, with what was listed of them so far.
    waiting: BTreeMap<Kind, BTreeSet<Key>>,
}

impl State {
    async fn publish(mut self, sender: watch::Sender<Arc<Observed>>) {
        while let Some(change) = self.changes.recv().await {
            if self.says_nothing(&change) {
                continue;
            }
            self.take(change);
            let patience = Instant::now() + PATIENCE;
            let mut quiet = Instant::now() + QUIET;
            while let Ok(Some(change)) = timeout_at(quiet.min(patience), self.changes.recv()).await {
                self.take(change);
                quiet = Instant::now() + QUIET;
            }
            if sender.is_closed() {
                return;
            }
            sender.send_replace(Arc::new(self.observed()));
        }
    }

    fn observed(&self) -> Observed {
        let problems = self.problems.values().flat_map(|(problems, _)| problems).cloned().collect();
        let unread = self.problems.iter().map(|(of, (_, metadata))| (of.clone(), metadata.clone())).collect();
        Observed { objects: self.objects.clone(), problems, unread }
    }

    /// That a kind is still not installed is said again and again.
    fn says_nothing(&self, change: &Change) -> bool {
        let Change::Absent(absent) = change else { return false };
        self.objects.keys(*absent).is_empty() && !self.problems.keys().any(|(kind, _)| kind == absent)
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Listing(kind) => drop(self.waiting.insert(kind, BTreeSet::new())),
            Change::Applied(kind, manifest, metadata) => self.apply(kind, *manifest, *metadata),
            Change::Deleted(kind, key) => self.delete(kind, &key),
            Change::Listed(kind) => self.listed(kind),
            Change::Absent(kind) => {
                self.waiting.insert(kind, BTreeSet::new());
                self.listed(kind);
            }
        }
    }

    /// What cannot be read leaves the last good version serving.
    fn apply(&mut self, kind: Kind, manifest: Manifest, metadata: ObjectMeta) {
        let key = metadata.key();
        for (object, origin) in manifest.objects {
            self.objects.insert(object, origin);
        }
        if let Some(listed) = self.waiting.get_mut(&kind) {
            listed.insert(key.clone());
        }
        match manifest.problems.is_empty() {
            true => drop(self.problems.remove(&(kind, key))),
            false => drop(self.problems.insert((kind, key), (manifest.problems, metadata))),
        }
    }

    fn delete(&mut self, kind: Kind, key: &Key) {
        self.objects.remove(kind, key);
        self.problems.remove(&(kind, key.clone()));
    }

    /// What was there before and is not listed any longer went unseen.
    fn listed(&mut self, kind: Kind) {
        let listed = self.waiting.remove(&kind).unwrap_or_default();
        let gone = |key: &Key| !listed.contains(key);
        let objects: Vec<Key> = self.objects.keys(kind).into_iter().filter(|key| gone(key)).cloned().collect();
        let unread = self.problems.keys().filter(|(of, key)| *of == kind && gone(key)).map(|(_, key)| key.clone());
        let unread: Vec<Key> = unread.collect();
        objects.iter().chain(&unread).for_each(|key| self.delete(kind, key));
    }
}
