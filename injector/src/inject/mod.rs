//! A pod without a sidecar → the same pod with one. Pure.

mod containers;
mod own;
mod probes;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::options::{BadAnnotation, Capture, Options};
use crate::{AGENT_PORT, INIT, SIDECAR, STATUS, Settings};

pub(crate) use probes::probe_at;

/// Whose pod it is: what it is called in metrics and traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(pub String);

impl Owner {
    /// The Deployment, StatefulSet or other controller of a pod, or the pod itself. A Deployment's ReplicaSet is its name and the
    /// pod template's hash.
    #[must_use]
    pub fn of(pod: &Value) -> Self {
        let metadata = &pod["metadata"];
        let owners = metadata["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
        let owner = owners.iter().find(|owner| owner["controller"] == true);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let Some(owner) = owner else {
            let name = text(&metadata["name"]);
            let generated = text(&metadata["generateName"]);
            return Self(if name.is_empty() { generated.trim_end_matches('-').to_owned() } else { name });
        };
        let name = text(&owner["name"]);
        let hash = metadata["labels"]["pod-template-hash"].as_str().filter(|_| owner["kind"] == "ReplicaSet");
        let deployment = hash.and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
        Self(deployment.map(str::to_owned).unwrap_or(name))
    }
}

/// Why a pod cannot be given a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// An annotation that cannot be meant.
    #[error(transparent)]
    Annotation(#[from] BadAnnotation),
    /// It is no pod.
    #[error("{0}")]
    Shape(String),
}

/// What was done to a pod, so that it can be undone. The value of annotation [`STATUS`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub(crate) version: String,
    /// What was put in.
    pub(crate) init_containers: Vec<String>,
    pub(crate) containers: Vec<String>,
    pub(crate) volumes: Vec<String>,
    /// Annotations as they were; `null`: not there.
    pub(crate) annotations: BTreeMap<String, Option<String>>,
    /// Probes as they were, by container and kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) probes: BTreeMap<String, Value>,
    /// The user's own container of the sidecar's name, which ours was merged with, and the list it stood in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) own: Option<(String, Value)>,
}

/// Gives a pod a sidecar. Whether it is to have one is not asked here.
///
/// # Errors
/// When an annotation cannot be meant, or it is no pod.
pub fn inject(pod: &mut Value, owner: &Owner, settings: &Settings) -> Result<(), InjectError> {
    let annotations = texts(&pod["metadata"]["annotations"]);
    let options = Options::read(&annotations)?;
    check_shape(pod)?;
    let native = options.native.unwrap_or_else(|| settings.native());
    let mut status = Status { version: env!("CARGO_PKG_VERSION").to_owned(), ..Status::default() };
    let metrics = metrics(&annotations);
    let first = pod["spec"]["containers"][0]["name"].as_str().unwrap_or_default().to_owned();
    if !options.keep_probes {
        status.probes = probes::rewrite(&mut pod["spec"]);
    }
    let facts = containers::Facts {
        settings,
        options: &options,
        owner,
        native,
        probes: &status.probes,
        metrics: metrics.as_deref(),
    };
    let mut sidecar = containers::sidecar(&facts);
    status.own = own::take(&mut pod["spec"]);
    if let Some((_, own)) = &status.own {
        own::merge(&mut sidecar, own);
    }
    let init = (options.capture == Capture::Iptables).then(|| containers::init(&facts));
    place(&mut pod["spec"], sidecar, init, native, options.hold_application, &mut status);
    place_volumes(&mut pod["spec"], containers::volumes(settings), &mut status);
    annotate(pod, &first, status);
    Ok(())
}

fn check_shape(pod: &Value) -> Result<(), InjectError> {
    let shape = |what: &str| Err(InjectError::Shape(format!("this is no pod: {what}")));
    let Some(containers) = pod["spec"]["containers"].as_array() else { return shape("spec.containers is no list") };
    if !containers.iter().all(Value::is_object) {
        return shape("a container is no map");
    }
    let lists = ["initContainers", "volumes"].map(|name| &pod["spec"][name]);
    if lists.iter().any(|list| !(list.is_null() || list.is_array())) {
        return shape("spec.initContainers or spec.volumes is no list");
    }
    let maps = ["annotations", "labels"].map(|name| &pod["metadata"][name]);
    if !pod["metadata"].is_object() || maps.iter().any(|map| !(map.is_null() || map.is_object())) {
        return shape("its metadata is no map");
    }
    Ok(())
}

/// Where the application's own metrics are, if it has any: `PORT PATH`.
fn metrics(annotations: &BTreeMap<String, String>) -> Option<String> {
    let get = |name: &str| annotations.get(&format!("prometheus.io/{name}")).map(String::as_str);
    let port: u16 = get("port").filter(|_| get("scrape") != Some("false"))?.parse().ok()?;
    (port != AGENT_PORT).then(|| format!("{port} {}", get("path").unwrap_or("/metrics")))
}

/// Puts the containers where they begin in the right order.
fn place(spec: &mut Value, sidecar: Value, init: Option<Value>, native: bool, hold: bool, status: &mut Status) {
    let mut first = Vec::new();
    if let Some(init) = init {
        status.init_containers.push(INIT.to_owned());
        first.push(init);
    }
    if native {
        status.init_containers.push(SIDECAR.to_owned());
        first.push(sidecar);
    } else {
        status.containers.push(SIDECAR.to_owned());
        let containers = list(spec, "containers");
        containers.insert(if hold { 0 } else { containers.len() }, sidecar);
    }
    if !first.is_empty() {
        list(spec, "initContainers").splice(0..0, first);
    }
}

fn place_volumes(spec: &mut Value, volumes: Vec<Value>, status: &mut Status) {
    status.volumes.extend(volumes.iter().map(|volume| volume["name"].as_str().unwrap_or_default().to_owned()));
    // First, so that it does not matter what the API server has added by now.
    list(spec, "volumes").splice(0..0, volumes);
}

fn annotate(pod: &mut Value, first: &str, mut status: Status) {
    let annotations = map(&mut pod["metadata"], "annotations");
    let mut set = |name: &str, value: String, always: bool| {
        let before = annotations.get(name).and_then(Value::as_str).map(str::to_owned);
        if always || before.is_none() {
            status.annotations.insert(name.to_owned(), before);
            annotations.insert(name.to_owned(), value.into());
        }
    };
    set("kubectl.kubernetes.io/default-container", first.to_owned(), false);
    set("prometheus.io/scrape", "true".to_owned(), false);
    set("prometheus.io/port", AGENT_PORT.to_string(), true);
    set("prometheus.io/path", "/stats/prometheus".to_owned(), true);
    // Only texts, lists and maps: it can always be written.
    annotations.insert(STATUS.to_owned(), serde_json::to_string(&status).unwrap_or_default().into());
}

/// A list of a map, made if it is not there.
pub(crate) fn list<'a>(parent: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    if !parent[name].is_array() {
        parent[name] = json!([]);
    }
    match &mut parent[name] {
        Value::Array(items) => items,
        _ => unreachable!("it has just been made"),
    }
}

/// A map of a map, made if it is not there.
pub(crate) fn map<'a>(parent: &'a mut Value, name: &str) -> &'a mut Map<String, Value> {
    if !parent[name].is_object() {
        parent[name] = json!({});
    }
    match &mut parent[name] {
        Value::Object(fields) => fields,
        _ => unreachable!("it has just been made"),
    }
}

/// The texts of a map.
#[must_use]
pub fn texts(map: &Value) -> BTreeMap<String, String> {
    let fields = map.as_object().into_iter().flatten();
    fields.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
