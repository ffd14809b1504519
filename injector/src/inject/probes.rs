//! Probes go to the sidecar, which asks the application from within the pod: from outside, a strict mesh would refuse them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{AGENT_PORT, SIDECAR};

/// The probes of a container, and what the last part of their paths is.
const KINDS: [(&str, &str); 3] =
    [("readinessProbe", "readyz"), ("livenessProbe", "livez"), ("startupProbe", "startupz")];

/// Rewrites the probes of all containers. Returns them as they were, by `CONTAINER/readyz` and the like, with ports as numbers.
pub(super) fn rewrite(spec: &mut Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            if name == SIDECAR {
                continue;
            }
            let ports = container["ports"].clone();
            for (kind, last) in KINDS {
                let path = format!("{name}/{last}");
                let Some(probe) = container.get_mut(kind) else { continue };
                if let Some(before) = redirect(probe, &path, &ports) {
                    found.insert(path, before);
                }
            }
        }
    }
    found
}

/// Sends a probe to the sidecar, and returns what it asked. Commands are run where they are.
fn redirect(probe: &mut Value, path: &str, ports: &Value) -> Option<Value> {
    let fields = probe.as_object_mut()?;
    let handler = ["httpGet", "tcpSocket", "grpc"].into_iter().find(|handler| fields.contains_key(*handler))?;
    let before = written(fields.remove(handler)?);
    fields.insert(
        "httpGet".to_owned(),
        json!({"path": format!("/app-health/{path}"), "port": AGENT_PORT, "scheme": "HTTP"}),
    );
    let number = number(&before["port"], ports);
    Some(
        json!({ handler: before, "port": number, "timeoutSeconds": fields.get("timeoutSeconds").cloned().unwrap_or(json!(1)) }),
    )
}

/// Without what the API server adds before it asks the webhook, so that offline it is the same.
fn written(mut handler: Value) -> Value {
    if let Some(fields) = handler.as_object_mut() {
        let added = |key: &str, value: &Value| {
            matches!((key, value.as_str()), ("scheme", Some("HTTP")) | ("service", Some("")))
        };
        fields.retain(|key, value| !added(key, value));
    }
    handler
}

/// A port by number, or by the name that its container gives it.
fn number(port: &Value, ports: &Value) -> Value {
    let Some(name) = port.as_str() else { return port.clone() };
    if let Ok(number) = name.parse::<u16>() {
        return number.into();
    }
    let ports = ports.as_array().map(Vec::as_slice).unwrap_or_default();
    ports.iter().find(|port| port["name"] == name).map_or(Value::Null, |port| port["containerPort"].clone())
}

/// A container's probe of one kind, by the last part of its path.
pub(crate) fn probe_at<'a>(container: &'a mut Value, last: &str) -> Option<&'a mut Value> {
    let kind = KINDS.iter().find(|(_, of)| *of == last)?.0;
    container.get_mut(kind)
}
