//! The user's own container of the sidecar's name: what it says comes before what we say.

use serde_json::{Value, json};

use super::list;
use crate::SIDECAR;

/// Where the API server mounts the account's token, before it asks the webhook and again after.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What a probe or a hook does, one of them.
const HANDLERS: [&str; 5] = ["exec", "grpc", "httpGet", "sleep", "tcpSocket"];

/// Takes it out, and says which list it stood in. It is as the user wrote it: without what the API server has added by now, so
/// that offline it is the same, and with no image where it stands for ours.
pub(super) fn take(spec: &mut Value) -> Option<(String, Value)> {
    ["containers", "initContainers"].into_iter().find_map(|name| {
        let at = spec[name].as_array()?.iter().position(|container| container["name"] == SIDECAR)?;
        Some((name.to_owned(), written(list(spec, name).remove(at))))
    })
}

/// Source: Kubernetes `SetDefaults_Container` and admission plugin `ServiceAccount`.
fn written(mut container: Value) -> Value {
    let image = container["image"].as_str().unwrap_or_default().to_owned();
    let policy = pull_policy(&image);
    let Some(fields) = container.as_object_mut() else { return container };
    fields.retain(|key, value| match key.as_str() {
        "imagePullPolicy" => *value != policy,
        "terminationMessagePath" => *value != "/dev/termination-log",
        "terminationMessagePolicy" => *value != "File",
        "resources" => *value != json!({}),
        _ => true,
    });
    if let Some(mounts) = fields.get_mut("volumeMounts").and_then(Value::as_array_mut) {
        mounts.retain(|mount| mount["mountPath"] != ACCOUNT);
        if mounts.is_empty() {
            fields.remove("volumeMounts");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = fields.get_mut(probe) {
            of_probe(probe);
        }
    }
    container
}

fn pull_policy(image: &str) -> &'static str {
    let tag = image.rsplit('/').next().and_then(|name| name.split_once(':')).map(|(_, tag)| tag);
    let latest = !image.is_empty() && !image.contains('@') && tag.is_none_or(|tag| tag == "latest");
    if latest { "Always" } else { "IfNotPresent" }
}

fn of_probe(probe: &mut Value) {
    if let Some(fields) = probe.as_object_mut() {
        let usual = [("failureThreshold", 3), ("periodSeconds", 10), ("successThreshold", 1), ("timeoutSeconds", 1)];
        fields.retain(|key, value| !usual.iter().any(|(name, number)| key == name && *value == *number));
    }
    if let Some(get) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
        get.retain(|key, value| !(key == "scheme" && *value == "HTTP"));
    }
}

/// Puts the user's words over ours; image `auto` is ours, as with Istio.
pub(super) fn merge(ours: &mut Value, own: &Value) {
    let mut own = own.clone();
    if let Some(fields) = own.as_object_mut() {
        fields.retain(|key, value| key != "image" || !(*value == "auto" || *value == ""));
    }
    over(ours, &own);
}

/// Maps are joined, and lists of things that have a key of their own.
fn over(ours: &mut Value, own: &Value) {
    match (ours, own) {
        (Value::Object(ours), Value::Object(own)) => {
            if HANDLERS.iter().any(|handler| own.contains_key(*handler)) {
                ours.retain(|key, _| !HANDLERS.contains(&key.as_str()) || own.contains_key(key));
            }
            for (key, value) in own {
                over(ours.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(ours), Value::Array(own)) if own.iter().all(|item| key(item).is_some()) => {
            for item in own {
                match ours.iter_mut().find(|known| key(known) == key(item)) {
                    Some(known) => *known = item.clone(),
                    None => ours.push(item.clone()),
                }
            }
        }
        (ours, own) => *ours = own.clone(),
    }
}

/// Source: the patch merge keys of Kubernetes' `Container`.
fn key(item: &Value) -> Option<&Value> {
    ["mountPath", "devicePath", "containerPort", "name"].into_iter().find_map(|key| item.get(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_user_wrote_it() {
        let cases = [
            (json!({"image": "auto", "imagePullPolicy": "Always", "resources": {}}), json!({"image": "auto"})),
            (json!({"imagePullPolicy": "IfNotPresent", "terminationMessagePolicy": "File"}), json!({})),
            (
                json!({"image": "r:5/a", "imagePullPolicy": "IfNotPresent"}),
                json!({"image": "r:5/a", "imagePullPolicy": "IfNotPresent"}),
            ),
            (json!({"volumeMounts": [{"name": "kube-api-access-x", "mountPath": ACCOUNT}]}), json!({})),
            (
                json!({"readinessProbe": {"httpGet": {"port": 1, "scheme": "HTTP"}, "periodSeconds": 10, "timeoutSeconds": 2}}),
                json!({"readinessProbe": {"httpGet": {"port": 1}, "timeoutSeconds": 2}}),
            ),
        ];
        for (container, expected) in cases {
            assert_eq!(written(container.clone()), expected, "{container}");
        }
    }

    #[test]
    fn over_ours() {
        let cases = [
            (json!({"image": "a"}), json!({"image": "auto"}), json!({"image": "a"})),
            (
                json!({"p": {"httpGet": {"port": 1}, "n": 2}}),
                json!({"p": {"exec": {}}}),
                json!({"p": {"exec": {}, "n": 2}}),
            ),
            (
                json!({"m": [{"name": "a", "mountPath": "/a"}]}),
                json!({"m": [{"name": "x", "mountPath": "/x"}, {"name": "x", "mountPath": "/y"}]}),
                json!({"m": [{"name": "a", "mountPath": "/a"}, {"name": "x", "mountPath": "/x"}, {"name": "x", "mountPath": "/y"}]}),
            ),
            (json!({"c": ["a"]}), json!({"c": ["b"]}), json!({"c": ["b"]})),
        ];
        for (mut ours, own, expected) in cases {
            merge(&mut ours, &own);
            assert_eq!(ours, expected);
        }
    }
}
