//! A pod with a sidecar → the same pod as it was before.

use serde_json::Value;

use crate::inject::{Status, list, map, probe_at};
use crate::{SIDECAR, STATUS};

/// Takes a sidecar out, if one was put in; whether one was.
pub fn undo(pod: &mut Value) -> bool {
    let text = pod["metadata"]["annotations"].get(STATUS).and_then(Value::as_str).map(str::to_owned);
    let Some(status) = text.and_then(|text| serde_json::from_str::<Status>(&text).ok()) else { return false };
    if !pod["spec"].is_object() {
        return false;
    }
    let spec = &mut pod["spec"];
    for (name, ours) in
        [("initContainers", &status.init_containers), ("containers", &status.containers), ("volumes", &status.volumes)]
    {
        let items = list(spec, name);
        items.retain(|item| !ours.iter().any(|name| item["name"] == name.as_str()));
        if items.is_empty() {
            remove(spec, name);
        }
    }
    if let Some((name, own)) = &status.own {
        list(spec, name).push(own.clone());
    }
    restore_probes(spec, &status);
    let annotations = map(&mut pod["metadata"], "annotations");
    annotations.remove(STATUS);
    for (name, before) in &status.annotations {
        match before {
            Some(before) => drop(annotations.insert(name.clone(), before.clone().into())),
            None => drop(annotations.remove(name)),
        }
    }
    if annotations.is_empty() {
        remove(&mut pod["metadata"], "annotations");
    }
    if pod["metadata"].as_object().is_some_and(serde_json::Map::is_empty) {
        remove(pod, "metadata");
    }
    true
}

fn remove(parent: &mut Value, name: &str) {
    if let Some(fields) = parent.as_object_mut() {
        fields.remove(name);
    }
}

fn restore_probes(spec: &mut Value, status: &Status) {
    for (path, before) in &status.probes {
        let Some((name, last)) = path.rsplit_once('/') else { continue };
        for container in ["containers", "initContainers"]
            .into_iter()
            .flat_map(|list| spec[list].as_array().cloned().map(|_| list))
            .collect::<Vec<_>>()
        {
            let containers = list(spec, container);
            let found = containers.iter_mut().find(|container| container["name"] == name && name != SIDECAR);
            let Some(probe) = found.and_then(|container| probe_at(container, last)) else { continue };
            let Some(fields) = probe.as_object_mut() else { continue };
            let handler = before
                .as_object()
                .into_iter()
                .flatten()
                .find(|(key, _)| ["httpGet", "tcpSocket", "grpc"].contains(&key.as_str()));
            if let Some((handler, was)) = handler {
                fields.remove("httpGet");
                fields.insert(handler.clone(), was.clone());
            }
        }
    }
}
