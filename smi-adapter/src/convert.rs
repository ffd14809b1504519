//! An SMI object in one version → the same in another, by way of the newest. Source: the SMI specification's API groups, and
//! Kubernetes `apiextensions.k8s.io/v1.ConversionReview`.
//!
//! Works on JSON, so that what is not known here, or is wrong, is kept and not lost.

use api::smi::quantity::Quantity;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What comes is no review.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no ConversionReview: {0}")]
pub struct NoReview(String);

/// Answers a review.
///
/// # Errors
/// When it is none. What cannot be converted is told in the answer.
pub fn review(body: &[u8]) -> Result<Value, NoReview> {
    let review: Value = serde_json::from_slice(body).map_err(|error| NoReview(error.to_string()))?;
    let request = &review["request"];
    let (Some(wanted), Some(objects)) = (request["desiredAPIVersion"].as_str(), request["objects"].as_array()) else {
        return Err(NoReview("it has no request with objects and a version".to_owned()));
    };
    let converted: Result<Vec<Value>, String> = objects.iter().map(|object| convert(object.clone(), wanted)).collect();
    let response = match converted {
        Ok(objects) => json!({"uid": request["uid"], "convertedObjects": objects, "result": {"status": "Success"}}),
        Err(message) => json!({"uid": request["uid"], "result": {"status": "Failure", "message": message}}),
    };
    Ok(json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response}))
}

/// Converts one object.
///
/// # Errors
/// When it is of another group than the wanted version, or of a kind that has no versions here.
pub fn convert(mut object: Value, wanted: &str) -> Result<Value, String> {
    let (group, version) = split(wanted)?;
    let written = object["apiVersion"].as_str().unwrap_or_default().to_owned();
    let (own_group, own) = split(&written)?;
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    if !object.is_object() {
        return Err("an object is a map".to_owned());
    }
    if group != own_group {
        return Err(format!("{kind} of {own_group} is not one of {group}"));
    }
    match kind.as_str() {
        "TrafficSplit" => {
            split_to_newest(&mut object, own);
            split_from_newest(&mut object, version);
        }
        "TrafficTarget" => {
            target_to_newest(&mut object, own);
            target_from_newest(&mut object, version);
        }
        "HTTPRouteGroup" => {
            if FLAT_GROUPS.contains(&own) {
                into_spec(&mut object, &["matches"]);
            }
            if FLAT_GROUPS.contains(&version) {
                out_of_spec(&mut object, &["matches"]);
            }
        }
        // The versions of these differ in nothing that is written.
        "TCPRoute" | "UDPRoute" => {}
        other => return Err(format!("{other} is no kind of SMI's")),
    }
    object["apiVersion"] = wanted.into();
    Ok(object)
}

/// Versions of HTTPRouteGroup that have no `spec`.
const FLAT_GROUPS: [&str; 2] = ["v1alpha1", "v1alpha2"];

fn split(api_version: &str) -> Result<(&str, &str), String> {
    api_version.split_once('/').ok_or_else(|| format!("`{api_version}` is no version of a group"))
}

/// Weights of v1alpha1 are quantities, and relative: those of one split are scaled together until all are whole.
fn split_to_newest(object: &mut Value, version: &str) {
    if version != "v1alpha1" {
        return;
    }
    let Some(backends) = object.pointer_mut("/spec/backends").and_then(Value::as_array_mut) else { return };
    let weight = |backend: &Value| match &backend["weight"] {
        Value::Null => Ok(Quantity::default()),
        weight => Quantity::deserialize(weight),
    };
    // What is no weight stays as it is, to be told as wrong by who reads it.
    let Ok(weights) = backends.iter().map(weight).collect::<Result<Vec<_>, _>>() else { return };
    for (backend, weight) in backends.iter_mut().zip(Quantity::whole(&weights)) {
        if let Some(fields) = backend.as_object_mut() {
            fields.insert("weight".to_owned(), weight.into());
        }
    }
}

fn split_from_newest(object: &mut Value, version: &str) {
    if version != "v1alpha1" {
        return;
    }
    let backends = object.pointer_mut("/spec/backends").and_then(Value::as_array_mut);
    for weight in backends.into_iter().flatten().filter_map(|backend| backend.get_mut("weight")) {
        if let Some(number) = weight.as_u64() {
            *weight = json!(number.to_string());
        }
    }
}

fn target_to_newest(object: &mut Value, version: &str) {
    if version != "v1alpha1" {
        return;
    }
    into_spec(object, &["destination", "sources", "specs"]);
    rename(object, "specs", "rules");
    let Some(port) = object.pointer_mut("/spec/destination/port") else { return };
    if let Some(number) = port.as_str().and_then(|port| port.parse::<u16>().ok()) {
        *port = json!(number);
    }
}

fn target_from_newest(object: &mut Value, version: &str) {
    if version != "v1alpha1" {
        return;
    }
    if let Some(port) = object.pointer_mut("/spec/destination/port")
        && let Some(number) = port.as_u64()
    {
        *port = json!(number.to_string());
    }
    rename(object, "rules", "specs");
    out_of_spec(object, &["destination", "sources", "specs"]);
}

fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(fields) = object.get_mut("spec").and_then(Value::as_object_mut)
        && let Some(value) = fields.remove(from)
    {
        fields.insert(to.to_owned(), value);
    }
}

fn into_spec(object: &mut Value, names: &[&str]) {
    let Some(fields) = object.as_object_mut() else { return };
    let moved: Vec<(String, Value)> =
        names.iter().filter_map(|name| Some(((*name).to_owned(), fields.remove(*name)?))).collect();
    let spec = fields.entry("spec").or_insert_with(|| Value::Object(Map::new()));
    if let Some(spec) = spec.as_object_mut() {
        spec.extend(moved);
    }
}

fn out_of_spec(object: &mut Value, names: &[&str]) {
    let Some(fields) = object.as_object_mut() else { return };
    let Some(Value::Object(mut spec)) = fields.remove("spec") else { return };
    for name in names {
        if let Some(value) = spec.remove(*name) {
            fields.insert((*name).to_owned(), value);
        }
    }
    if !spec.is_empty() {
        fields.insert("spec".to_owned(), Value::Object(spec));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(object: Value, wanted: &str, expected: Value) {
        assert_eq!(convert(object, wanted).unwrap(), expected);
    }

    #[test]
    fn splits() {
        let old = json!({"apiVersion": "split.smi-spec.io/v1alpha1", "kind": "TrafficSplit", "metadata": {"name": "s"},
            "spec": {"service": "web", "backends": [{"service": "a", "weight": "500m"}, {"service": "b", "weight": 1}, {"service": "c"}]}});
        let new = json!({"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit", "metadata": {"name": "s"},
            "spec": {"service": "web", "backends": [{"service": "a", "weight": 500}, {"service": "b", "weight": 1000}, {"service": "c", "weight": 0}]}});
        check(old, "split.smi-spec.io/v1alpha4", new.clone());
        let back = convert(new.clone(), "split.smi-spec.io/v1alpha1").unwrap();
        assert_eq!(back["spec"]["backends"][1]["weight"], "1000");
        check(back, "split.smi-spec.io/v1alpha4", new);
    }

    #[test]
    fn targets() {
        let old = json!({"apiVersion": "access.smi-spec.io/v1alpha1", "kind": "TrafficTarget", "metadata": {"name": "t"},
            "destination": {"kind": "ServiceAccount", "name": "web", "port": "8080"}, "specs": [{"kind": "HTTPRouteGroup", "name": "g"}], "sources": []});
        let new = json!({"apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget", "metadata": {"name": "t"},
            "spec": {"destination": {"kind": "ServiceAccount", "name": "web", "port": 8080}, "rules": [{"kind": "HTTPRouteGroup", "name": "g"}], "sources": []}});
        check(old.clone(), "access.smi-spec.io/v1alpha3", new.clone());
        check(new, "access.smi-spec.io/v1alpha1", old);
    }

    #[test]
    fn groups() {
        let old = json!({"apiVersion": "specs.smi-spec.io/v1alpha2", "kind": "HTTPRouteGroup", "metadata": {}, "matches": [{"name": "m"}]});
        let new = json!({"apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup", "metadata": {}, "spec": {"matches": [{"name": "m"}]}});
        check(old.clone(), "specs.smi-spec.io/v1alpha4", new.clone());
        check(new, "specs.smi-spec.io/v1alpha2", old);
    }

    #[test]
    fn what_is_no_review() {
        for body in ["", "{]", "7", "{}", r#"{"request": {"objects": 3}}"#] {
            assert!(review(body.as_bytes()).is_err(), "{body}");
        }
        let kinds = ["TrafficSplit", "TrafficTarget", "HTTPRouteGroup"];
        let specs = [
            json!(7),
            json!("x"),
            json!([]),
            json!({"backends": 7}),
            json!({"backends": [7]}),
            json!({"destination": 7}),
        ];
        for (kind, spec) in kinds.iter().flat_map(|kind| specs.iter().map(move |spec| (kind, spec))) {
            for (from, to) in [("v1alpha1", "v1alpha4"), ("v1alpha4", "v1alpha1")] {
                let object = json!({"apiVersion": format!("g/{from}"), "kind": kind, "spec": spec});
                assert!(convert(object, &format!("g/{to}")).is_ok());
            }
        }
        assert!(convert(json!(7), "g/v1").is_err());
    }
}
