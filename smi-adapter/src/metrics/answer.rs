//! Figures of a resource → the items of an answer. Not which resources are asked for.

use std::collections::BTreeMap;

use api::{Key, Objects};
use serde_json::{Value, json};

use super::members::{Resource, owners};
use super::{API_VERSION, Direction, Figures, Flow, Traffic, WINDOW_SECONDS};

/// What answers are made from.
pub(super) struct Answer<'a> {
    pub(super) kind: &'a str,
    pub(super) objects: &'a Objects,
    pub(super) traffic: &'a Traffic,
    pub(super) now: &'a str,
}

impl Answer<'_> {
    /// One item; for a split one for each backend.
    pub(super) fn items(&self, resource: &Resource) -> Vec<Value> {
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
    pub(super) fn edges(&self, resource: &Resource) -> Vec<Value> {
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
        if self.objects.workloads.contains_key(peer) {
            return "Workload";
        }
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
