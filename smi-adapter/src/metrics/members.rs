//! Which resources of a kind there are, and which pods and Workloads belong to each. Not what they exchanged.

use std::collections::{BTreeMap, BTreeSet};

use api::core::Pod;
use api::{Key, ObjectMeta, Objects};

/// Something that figures can be asked for, with the pods and Workloads that are it.
pub(super) struct Resource {
    pub(super) key: Key,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) pods: BTreeSet<Key>,
}

/// All resources of a kind. Those that only group pods are known by their pods.
pub(super) fn resources(kind: &str, objects: &Objects) -> Vec<Resource> {
    if kind == "TrafficSplit" {
        let split = |(key, split): (&Key, &api::Stored<api::smi::TrafficSplit>)| Resource {
            key: key.clone(),
            labels: split.metadata.labels.clone(),
            pods: BTreeSet::new(),
        };
        return objects.traffic_splits.iter().map(split).collect();
    }
    let pods = objects.pods.iter().map(|(key, pod)| (key, groups_of_pod(kind, key, pod, objects)));
    let workloads = objects
        .workloads
        .iter()
        .map(|(key, workload)| (key, groups(kind, "Workload", key, &workload.metadata, objects)));
    let mut found: BTreeMap<Key, Resource> = BTreeMap::new();
    for (key, groups) in pods.chain(workloads) {
        for (of, labels) in groups {
            let resource =
                found.entry(of.clone()).or_insert_with(|| Resource { key: of, labels, pods: BTreeSet::new() });
            resource.pods.insert(key.clone());
        }
    }
    found.into_values().collect()
}

/// Resources, with their labels.
type Groups = Vec<(Key, BTreeMap<String, String>)>;

fn groups_of_pod(kind: &str, key: &Key, pod: &Pod, objects: &Objects) -> Groups {
    let mut found = groups(kind, "Pod", key, &pod.metadata, objects);
    if kind == "Node" {
        found.extend(pod.spec.node_name.iter().map(|node| (Key::new("", node.clone()), BTreeMap::new())));
    }
    let owners = owners(pod).filter(|(owner, _)| *owner == kind);
    found.extend(owners.map(|(_, name)| (Key::new(key.namespace.clone(), name), pod.metadata.labels.clone())));
    found
}

/// The resources of a kind that something belongs to by its own kind, its namespace or its labels.
fn groups(kind: &str, own: &str, key: &Key, metadata: &ObjectMeta, objects: &Objects) -> Groups {
    match kind {
        "Namespace" => {
            let of = Key::new("", key.namespace.clone());
            let labels = objects.namespaces.get(&of).map(|namespace| namespace.metadata.labels.clone());
            vec![(of, labels.unwrap_or_default())]
        }
        "Service" => {
            let services = objects.services.iter().filter(|(of, _)| of.namespace == key.namespace);
            let selects = |selector: &BTreeMap<String, String>| {
                !selector.is_empty() && selector.iter().all(|(k, v)| metadata.labels.get(k) == Some(v))
            };
            let services = services.filter(|(_, service)| selects(&service.spec.selector));
            services.map(|(of, service)| (of.clone(), service.metadata.labels.clone())).collect()
        }
        kind if kind == own => vec![(key.clone(), metadata.labels.clone())],
        _ => Vec::new(),
    }
}

/// The controllers of a pod. A Deployment's ReplicaSet is its name and the pod template's hash.
pub(super) fn owners(pod: &Pod) -> impl Iterator<Item = (&str, String)> {
    let owner = pod.metadata.owner_references.iter().find(|owner| owner.controller);
    let hash = pod.metadata.labels.get("pod-template-hash");
    let deployment = owner.filter(|owner| owner.kind == "ReplicaSet").and_then(|owner| {
        let name = owner.name.strip_suffix(hash?.as_str())?.strip_suffix('-')?;
        Some(("Deployment", name.to_owned()))
    });
    owner.map(|owner| (owner.kind.as_str(), owner.name.clone())).into_iter().chain(deployment)
}
