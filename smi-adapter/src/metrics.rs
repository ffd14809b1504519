//! What the API `metrics.smi-spec.io/v1alpha1` answers: paths and figures in, JSON out. Pure.
//!
//! Source: SMI Traffic Metrics v1alpha1. Latencies are in seconds, as the specification has them. An edge names the workload at its
//! other end, which is as far as proxies know each other.

use std::collections::{BTreeMap, BTreeSet};

use api::{Key, Objects};
use serde_json::{Value, json};

/// The API's group and version.
pub const API_VERSION: &str = "metrics.smi-spec.io/v1alpha1";
/// How long ago figures begin.
pub const WINDOW_SECONDS: u64 = 30;

/// Which way requests went, as the proxy that counted them saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// They came in, from a peer.
    From,
    /// They went out, to a peer.
    To,
}

/// What a pod exchanged with one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// The pod whose proxy counted.
    pub pod: Key,
    /// Which way.
    pub direction: Direction,
    /// The peer's workload; empty where it is not known.
    pub peer: Key,
    /// The Service that was called.
    pub service: Key,
}

/// How many requests there were, and how long they took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Answered, and not by a failure of the server's.
    pub success: u64,
    /// Answered with 5xx or not at all.
    pub failure: u64,
    /// How many took at most so many microseconds.
    pub within: BTreeMap<u64, u64>,
}

impl Figures {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.success += other.success;
        self.failure += other.failure;
        for (limit, count) in &other.within {
            *self.within.entry(*limit).or_default() += count;
        }
    }

    /// What came after `before`; a proxy that began anew counts from nothing.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        if self.success < before.success || self.failure < before.failure {
            return self.clone();
        }
        let earlier = |limit: &u64| before.within.get(limit).copied().unwrap_or(0);
        Self {
            success: self.success - before.success,
            failure: self.failure - before.failure,
            within: self.within.iter().map(|(limit, n)| (*limit, n.saturating_sub(earlier(limit)))).collect(),
        }
    }

    /// The latency that a share of the requests kept within, in microseconds. Source: Prometheus' `histogram_quantile`.
    fn quantile(&self, share: f64) -> u64 {
        let total = self.within.values().next_back().copied().unwrap_or(0);
        let rank = share * total as f64;
        let (mut below, mut limit_below) = (0, 0);
        for (limit, count) in &self.within {
            if *count as f64 >= rank && total > 0 {
                // Beyond the last limit nothing is known.
                if *limit == u64::MAX {
                    return limit_below;
                }
                let inside = (count - below).max(1) as f64;
                let part = (rank - below as f64).max(0.0) / inside;
                return limit_below + ((limit - limit_below) as f64 * part) as u64;
            }
            (below, limit_below) = (*count, *limit);
        }
        0
    }

    fn metrics(&self) -> Value {
        let latency =
            |name: &str, share: f64| json!({"name": name, "unit": "seconds", "value": quantity(self.quantile(share))});
        json!([
            latency("p99_response_latency", 0.99),
            latency("p90_response_latency", 0.9),
            latency("p50_response_latency", 0.5),
            {"name": "success_count", "value": self.success.to_string()},
            {"name": "failure_count", "value": self.failure.to_string()},
        ])
    }
}

/// Seconds as a quantity: `10m` is ten milliseconds.
fn quantity(micros: u64) -> String {
    if micros.is_multiple_of(1000) { format!("{}m", micros / 1000) } else { format!("{micros}u") }
}

/// The figures of the last window, by flow.
pub type Traffic = BTreeMap<Flow, Figures>;

/// A kind that figures are asked for: its path, its name, and whether it is in a namespace.
const KINDS: [(&str, &str, bool); 11] = [
    ("namespaces", "Namespace", false),
    ("nodes", "Node", false),
    ("pods", "Pod", true),
    ("replicationcontrollers", "ReplicationController", true),
    ("services", "Service", true),
    ("daemonsets", "DaemonSet", true),
    ("deployments", "Deployment", true),
    ("replicasets", "ReplicaSet", true),
    ("statefulsets", "StatefulSet", true),
    ("jobs", "Job", true),
    ("trafficsplits", "TrafficSplit", true),
];

/// What the API is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    kind: &'static str,
    namespace: Option<String>,
    name: Option<String>,
    edges: bool,
    selector: BTreeMap<String, String>,
}

/// The kinds there are, as discovery asks for them.
#[must_use]
pub fn resources() -> Value {
    let resource = |name: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": "TrafficMetrics", "verbs": ["get", "list"]});
    let mut list = Vec::new();
    for (path, _, namespaced) in KINDS {
        list.push(resource(path, namespaced));
        list.push(resource(&format!("{path}/edges"), namespaced));
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": list})
}

impl Question {
    /// Reads the path after the version, and a label selector. `None` for a path that is none.
    #[must_use]
    pub fn read(path: &str, selector: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let kind = |path: &str| KINDS.iter().find(|(known, ..)| *known == path);
        let (found, namespace, name, edges) = match parts.as_slice() {
            [path] => (kind(path)?, None, None, false),
            ["namespaces", name] => (kind("namespaces")?, None, Some(*name), false),
            ["namespaces", name, "edges"] => (kind("namespaces")?, None, Some(*name), true),
            ["namespaces", namespace, path] => (kind(path)?, Some(*namespace), None, false),
            ["namespaces", namespace, path, name] => (kind(path)?, Some(*namespace), Some(*name), false),
            ["namespaces", namespace, path, name, "edges"] => (kind(path)?, Some(*namespace), Some(*name), true),
            [path, name] => (kind(path).filter(|(.., namespaced)| !namespaced)?, None, Some(*name), false),
            [path, name, "edges"] => (kind(path).filter(|(.., namespaced)| !namespaced)?, None, Some(*name), true),
            _ => return None,
        };
        let (_, kind, namespaced) = *found;
        if namespace.is_some() && !namespaced {
            return None;
        }
        let pairs = selector.split(',').filter_map(|pair| pair.split_once('='));
        let selector =
            pairs.map(|(key, value)| (key.trim().to_owned(), value.trim_start_matches('=').trim().to_owned()));
        Some(Self {
            kind,
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            edges,
            selector: selector.collect(),
        })
    }

    /// The answer; `None` for a name that does not exist.
    #[must_use]
    pub fn answer(&self, objects: &Objects, traffic: &Traffic, now: &str) -> Option<Value> {
        let asked: Vec<Resource> = resources_of(self.kind, objects).into_iter().filter(|one| self.means(one)).collect();
        let answer = Answer { kind: self.kind, objects, traffic, now };
        let Some(name) = &self.name else {
            let items: Vec<Value> = asked.iter().flat_map(|resource| answer.items(resource)).collect();
            return Some(self.list(json!({"kind": self.kind, "namespace": self.namespace}), items));
        };
        let resource = asked.first()?;
        if self.edges {
            let told = json!({"kind": self.kind, "namespace": resource.key.namespace, "name": name});
            return Some(self.list(told, answer.edges(resource)));
        }
        let mut items = answer.items(resource);
        match (self.kind, items.len()) {
            ("TrafficSplit", _) => {
                Some(self.list(json!({"kind": self.kind, "namespace": self.namespace, "name": name}), items))
            }
            (_, 0) => None,
            _ => Some(items.swap_remove(0)),
        }
    }

    fn means(&self, resource: &Resource) -> bool {
        self.name.as_ref().is_none_or(|name| *name == resource.key.name)
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == resource.key.namespace)
            && self.selector.iter().all(|(key, value)| resource.labels.get(key) == Some(value))
    }

    fn list(&self, mut resource: Value, items: Vec<Value>) -> Value {
        if let Some(fields) = resource.as_object_mut() {
            fields.retain(|_, value| !(value.is_null() || value == ""));
        }
        let mut list = json!({"kind": "TrafficMetricsList", "apiVersion": API_VERSION, "metadata": {}, "resource": resource, "items": items});
        if !self.selector.is_empty() {
            list["selector"] = json!({"matchLabels": self.selector});
        }
        list
    }
}

/// Something that figures can be asked for, with its pods.
struct Resource {
    key: Key,
    labels: BTreeMap<String, String>,
    pods: BTreeSet<Key>,
}

/// All resources of a kind. Those that only group pods are known by their pods.
fn resources_of(kind: &str, objects: &Objects) -> Vec<Resource> {
    if kind == "TrafficSplit" {
        let split = |(key, split): (&Key, &api::Stored<api::smi::TrafficSplit>)| Resource {
            key: key.clone(),
            labels: split.metadata.labels.clone(),
            pods: BTreeSet::new(),
        };
        return objects.traffic_splits.iter().map(split).collect();
    }
    let mut found: BTreeMap<Key, Resource> = BTreeMap::new();
    for (key, pod) in &objects.pods {
        for (of, labels) in groups(kind, key, pod, objects) {
            let resource =
                found.entry(of.clone()).or_insert_with(|| Resource { key: of, labels, pods: BTreeSet::new() });
            resource.pods.insert(key.clone());
        }
    }
    found.into_values().collect()
}

/// The resources of a kind that a pod belongs to, with their labels.
fn groups(kind: &str, key: &Key, pod: &api::core::Pod, objects: &Objects) -> Vec<(Key, BTreeMap<String, String>)> {
    let labels = || pod.metadata.labels.clone();
    let namespaced = |name: &str| Key::new(key.namespace.clone(), name);
    match kind {
        "Pod" => vec![(key.clone(), labels())],
        "Namespace" => {
            let of = Key::new("", key.namespace.clone());
            let labels = objects.namespaces.get(&of).map(|namespace| namespace.metadata.labels.clone());
            vec![(of, labels.unwrap_or_default())]
        }
        "Node" => pod.spec.node_name.iter().map(|node| (Key::new("", node.clone()), BTreeMap::new())).collect(),
        "Service" => {
            let services = objects.services.iter().filter(|(of, _)| of.namespace == key.namespace);
            let selects = |selector: &BTreeMap<String, String>| {
                !selector.is_empty() && selector.iter().all(|(k, v)| pod.metadata.labels.get(k) == Some(v))
            };
            let services = services.filter(|(_, service)| selects(&service.spec.selector));
            services.map(|(of, service)| (of.clone(), service.metadata.labels.clone())).collect()
        }
        owner => {
            owners(pod).filter(|(kind, _)| *kind == owner).map(|(_, name)| (namespaced(&name), labels())).collect()
        }
    }
}

/// The controllers of a pod. A Deployment's ReplicaSet is its name and the pod template's hash.
fn owners(pod: &api::core::Pod) -> impl Iterator<Item = (&str, String)> {
    let owner = pod.metadata.owner_references.iter().find(|owner| owner.controller);
    let hash = pod.metadata.labels.get("pod-template-hash");
    let deployment = owner.filter(|owner| owner.kind == "ReplicaSet").and_then(|owner| {
        let name = owner.name.strip_suffix(hash?.as_str())?.strip_suffix('-')?;
        Some(("Deployment", name.to_owned()))
    });
    owner.map(|owner| (owner.kind.as_str(), owner.name.clone())).into_iter().chain(deployment)
}

struct Answer<'a> {
    kind: &'a str,
    objects: &'a Objects,
    traffic: &'a Traffic,
    now: &'a str,
}

impl Answer<'_> {
    /// One item; for a split one for each backend.
    fn items(&self, resource: &Resource) -> Vec<Value> {
        if self.kind != "TrafficSplit" {
            let figures = self.sum(|flow| flow.direction == Direction::From && resource.pods.contains(&flow.pod));
            return vec![self.item(resource, Direction::From, &json!({}), &figures)];
        }
        let Some(split) = self.objects.traffic_splits.get(&resource.key) else { return Vec::new() };
        let backend = |backend: &api::smi::split::Backend| {
            let service = Key::new(resource.key.namespace.clone(), backend.service.clone());
            let figures = self.sum(|flow| flow.direction == Direction::To && flow.service == service);
            let mut item = self.item(resource, Direction::From, &json!({}), &figures);
            item["edge"]["side"] = json!("client");
            item["backend"] = json!({"apex": split.spec.service, "name": backend.service, "weight": backend.weight});
            item
        };
        split.spec.backends.iter().map(backend).collect()
    }

    /// One item for each workload at the other end.
    fn edges(&self, resource: &Resource) -> Vec<Value> {
        let mut edges: BTreeMap<(Direction, &Key), Figures> = BTreeMap::new();
        let own =
            self.traffic.iter().filter(|(flow, _)| resource.pods.contains(&flow.pod) && !flow.peer.name.is_empty());
        for (flow, figures) in own {
            edges.entry((flow.direction, &flow.peer)).or_default().add(figures);
        }
        let edge = |((direction, peer), figures): ((Direction, &Key), Figures)| {
            let kind = self.kind_of(peer);
            let peer = json!({"kind": kind, "namespace": peer.namespace, "name": peer.name});
            self.item(resource, direction, &peer, &figures)
        };
        edges.into_iter().map(edge).collect()
    }

    /// What a workload's name stands for.
    fn kind_of(&self, peer: &Key) -> &str {
        let pods = self.objects.pods.iter().filter(|(key, _)| key.namespace == peer.namespace);
        let owned = pods.flat_map(|(_, pod)| owners(pod)).filter(|(_, name)| *name == peer.name);
        owned.map(|(kind, _)| kind).max_by_key(|kind| *kind == "Deployment").unwrap_or("Pod")
    }

    fn sum(&self, counts: impl Fn(&Flow) -> bool) -> Figures {
        let mut sum = Figures::default();
        self.traffic.iter().filter(|(flow, _)| counts(flow)).for_each(|(_, figures)| sum.add(figures));
        sum
    }

    fn item(&self, resource: &Resource, direction: Direction, peer: &Value, figures: &Figures) -> Value {
        let mut told = json!({"kind": self.kind, "name": resource.key.name});
        if !resource.key.namespace.is_empty() {
            told["namespace"] = json!(resource.key.namespace);
        }
        let (direction, side) = match direction {
            Direction::From => ("from", "server"),
            Direction::To => ("to", "client"),
        };
        json!({
            "kind": "TrafficMetrics",
            "apiVersion": API_VERSION,
            "metadata": {"name": resource.key.name, "namespace": resource.key.namespace, "creationTimestamp": self.now},
            "resource": told,
            "edge": {"direction": direction, "side": side, "resource": peer},
            "timestamp": self.now,
            "window": format!("{WINDOW_SECONDS}s"),
            "metrics": figures.metrics(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(success: u64, failure: u64) -> Figures {
        let all = success + failure;
        Figures { success, failure, within: [(1000, all / 2), (10_000, all), (u64::MAX, all)].into() }
    }

    #[test]
    fn quantiles() {
        let figures = figures(90, 10);
        assert_eq!(figures.quantile(0.5), 1000);
        assert_eq!(figures.quantile(0.75), 5500);
        assert_eq!(Figures::default().quantile(0.99), 0);
        assert_eq!(figures.since(&self::figures(40, 10)).success, 50);
        assert_eq!(quantity(10_000), "10m");
        assert_eq!(quantity(5500), "5500u");
    }

    #[test]
    fn paths() {
        for path in
            ["pods", "namespaces/shop", "namespaces/shop/edges", "namespaces/shop/pods/web-1/edges", "nodes/n/edges"]
        {
            assert!(Question::read(path, "").is_some(), "{path}");
        }
        for path in ["", "nonsense", "pods/web-1", "namespaces/shop/nodes", "namespaces/shop/pods/a/b"] {
            assert!(Question::read(path, "").is_none(), "{path}");
        }
    }

    #[test]
    fn answers() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web-abc-1, namespace: shop, labels: {app: web, pod-template-hash: abc}, \
            ownerReferences: [{kind: ReplicaSet, name: web-abc, controller: true}]}\nspec: {containers: []}\n---\n\
            apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {name: s, namespace: shop}\n\
            spec: {service: api, backends: [{service: api-v1, weight: 90}]}\n";
        let (objects, problems) = api::manifest::objects("x", text);
        assert!(problems.is_empty(), "{problems:?}");
        let flow = |direction, service: &str| Flow {
            pod: Key::new("shop", "web-abc-1"),
            direction,
            peer: Key::new("shop", "api"),
            service: Key::new("shop", service),
        };
        let traffic = Traffic::from([
            (flow(Direction::From, "web"), figures(7, 1)),
            (flow(Direction::To, "api-v1"), figures(5, 0)),
        ]);
        let ask =
            |path: &str, selector: &str| Question::read(path, selector).unwrap().answer(&objects, &traffic, "now");
        let deployment = ask("namespaces/shop/deployments/web", "").unwrap();
        assert_eq!(deployment["metrics"][3], json!({"name": "success_count", "value": "7"}));
        assert_eq!(ask("namespaces/shop/pods", "app=web").unwrap()["items"].as_array().unwrap().len(), 1);
        assert!(ask("namespaces/shop/pods", "app=other").unwrap()["items"].as_array().unwrap().is_empty());
        assert!(ask("namespaces/shop/deployments/other", "").is_none());
        let edges = ask("namespaces/shop/deployments/web/edges", "").unwrap();
        assert_eq!(edges["items"].as_array().unwrap().len(), 2);
        let split = ask("namespaces/shop/trafficsplits/s", "").unwrap();
        assert_eq!(split["items"][0]["backend"], json!({"apex": "api", "name": "api-v1", "weight": 90}));
        assert_eq!(split["items"][0]["metrics"][3]["value"], "5");
    }
}
