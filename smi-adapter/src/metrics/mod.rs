//! What the API `metrics.smi-spec.io/v1alpha1` answers: paths and figures in, JSON out. Pure.
//!
//! Source: SMI Traffic Metrics v1alpha1. Latencies are in seconds, as the specification has them. An edge names the workload at its
//! other end, which is as far as proxies know each other. A Workload stands beside pods: what selects pods selects it too, and it is a
//! kind of its own here, which the specification does not have.

mod answer;
mod figures;
mod members;

use std::collections::BTreeMap;

use api::Objects;
use serde_json::{Value, json};

use answer::Answer;
pub use figures::{Direction, Figures, Flow, Traffic};
use members::Resource;

/// The API's group and version.
pub const API_VERSION: &str = "metrics.smi-spec.io/v1alpha1";
/// How long ago figures begin.
pub const WINDOW_SECONDS: u64 = 30;

/// A kind that figures are asked for: its path, its name, and whether it is in a namespace.
const KINDS: [(&str, &str, bool); 12] = [
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
    ("workloads", "Workload", true),
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
        let asked: Vec<Resource> =
            members::resources(self.kind, objects).into_iter().filter(|one| self.means(one)).collect();
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

#[cfg(test)]
mod tests {
    use api::Key;

    use super::*;

    fn figures(success: u64, failure: u64) -> Figures {
        let all = success + failure;
        Figures { success, failure, within: [(1000, all / 2), (10_000, all), (u64::MAX, all)].into() }
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

    /// Outside a cluster Workloads are what pods are inside.
    #[test]
    fn workloads() {
        let text = "apiVersion: mesh.outrigger.dev/v1alpha1\nkind: Workload\nmetadata: {name: api-1, namespace: shop, labels: {app: api}}\n\
            spec: {address: 127.0.0.1}\n---\napiVersion: mesh.outrigger.dev/v1alpha1\nkind: Workload\nmetadata: {name: web, namespace: shop}\n\
            spec: {address: 127.0.0.2}\n---\n\
            apiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: shop}\nspec: {selector: {app: api}, ports: [{port: 80}]}\n";
        let (objects, problems) = api::manifest::objects("x", text);
        assert!(problems.is_empty(), "{problems:?}");
        let (pod, peer, service) = (Key::new("shop", "api-1"), Key::new("shop", "web"), Key::new("shop", "api"));
        let traffic = Traffic::from([(Flow { pod, direction: Direction::From, peer, service }, figures(7, 1))]);
        let ask = |path: &str| Question::read(path, "").unwrap().answer(&objects, &traffic, "now");
        for path in ["namespaces/shop", "namespaces/shop/services/api", "namespaces/shop/workloads/api-1"] {
            assert_eq!(ask(path).unwrap()["metrics"][3]["value"], "7", "{path}");
        }
        assert!(ask("pods").unwrap()["items"].as_array().unwrap().is_empty());
        assert_eq!(ask("workloads").unwrap()["items"].as_array().unwrap().len(), 2);
        let edges = ask("namespaces/shop/workloads/api-1/edges").unwrap();
        let web = json!({"kind": "Workload", "namespace": "shop", "name": "web"});
        assert_eq!(edges["items"][0]["edge"]["resource"], web);
    }
}
