//! Files of workloads → the same files with sidecars, or without. What is no workload stays byte for byte.

use serde_json::Value;

use crate::decide::{Decision, Namespace, decide};
use crate::inject::InjectError;
use crate::undo::undo;
use crate::{Owner, Settings, inject};

/// What is done to the pods of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// They get sidecars.
    Inject,
    /// They lose them.
    Uninject,
}

/// A document that cannot be read, or whose pods cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("document {number}: {message}")]
pub struct BadDocument {
    /// From 1.
    pub number: usize,
    /// One line.
    pub message: String,
}

/// Changes the pods of all documents of a text, YAML or JSON.
///
/// # Errors
/// At the first document that cannot be changed.
pub fn change(text: &str, change: Change, settings: &Settings) -> Result<String, BadDocument> {
    let mut out = String::new();
    for (number, part) in documents(text).into_iter().enumerate() {
        let bad = |message: String| BadDocument { number: number + 1, message };
        let mut object = read(part.body).map_err(bad)?;
        let changed = each_workload(&mut object, &mut |workload| match change {
            Change::Inject => inject_workload(workload, settings).map(|decision| decision.injects()),
            Change::Uninject => Ok(pod_of(workload).is_some_and(|(pod, _)| undo(pod))),
        });
        let changed = changed.map_err(|error| bad(error.to_string()))?;
        out.push_str(if changed { part.separator.trim_end_matches(' ') } else { part.separator });
        if changed && !(out.is_empty() || out.ends_with('\n')) {
            out.push('\n');
        }
        match changed {
            true if part.body.trim_start().starts_with(['{', '[']) => {
                out.push_str(&serde_json::to_string_pretty(&object).map_err(|error| bad(error.to_string()))?);
                out.push('\n');
            }
            true => out.push_str(&serde_saphyr::to_string(&object).map_err(|error| bad(error.to_string()))?),
            false => out.push_str(part.body),
        }
    }
    Ok(out)
}

/// What decides about each workload of a text: its kind and name, and the rule.
///
/// # Errors
/// As [`change`].
pub fn explain(text: &str, settings: &Settings) -> Result<Vec<(String, String)>, BadDocument> {
    let mut found = Vec::new();
    for (number, part) in documents(text).into_iter().enumerate() {
        let bad = |message: String| BadDocument { number: number + 1, message };
        let mut object = read(part.body).map_err(bad)?;
        let told = each_workload(&mut object, &mut |workload| {
            let name = format!("{}/{}", text_of(&workload["kind"]), text_of(&workload["metadata"]["name"]));
            let decision = inject_workload(&mut workload.clone(), settings);
            found.push((name, decision.map_or_else(|error| error.to_string(), |decision| decision.to_string())));
            Ok(false)
        });
        told.map_err(|error| bad(error.to_string()))?;
    }
    Ok(found)
}

struct Part<'a> {
    separator: &'a str,
    body: &'a str,
}

/// The documents of a text, each after the line that sets it apart.
fn documents(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut separator, mut begin, mut at) = (&text[..0], 0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" || line.starts_with("--- ") {
            parts.push(Part { separator, body: &text[begin..at] });
            let rest = line["---".len()..].trim_start();
            // What follows on the line may be the document itself.
            let length = if rest.is_empty() || rest.starts_with('#') { line.len() } else { line.len() - rest.len() };
            separator = &line[..length];
            begin = at + length;
        }
        at += line.len();
    }
    parts.push(Part { separator, body: &text[begin..] });
    // A first line that sets nothing apart from nothing.
    parts.retain(|part| !(part.separator.is_empty() && part.body.is_empty()));
    parts
}

/// `null` for a document that says nothing.
fn read(body: &str) -> Result<Value, String> {
    let says_nothing = |line: &str| {
        let text = line.trim_start_matches('\u{feff}').trim();
        text.is_empty() || text.starts_with('#') || text == "..." || line.starts_with('%')
    };
    if body.lines().all(says_nothing) {
        return Ok(Value::Null);
    }
    // As kubectl reads it: `defaultMode: 0400` is octal, `hostNetwork: yes` is true.
    let options = serde_saphyr::options! { strict_booleans: false, legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(body, options)
        .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
}

/// Calls `with` for the object, or for each of a List; whether any was changed.
fn each_workload(
    object: &mut Value,
    with: &mut dyn FnMut(&mut Value) -> Result<bool, InjectError>,
) -> Result<bool, InjectError> {
    if object["kind"].as_str().is_some_and(|kind| kind.ends_with("List"))
        && let Some(items) = object["items"].as_array_mut()
    {
        let mut changed = false;
        for item in items {
            changed |= each_workload(item, with)?;
        }
        return Ok(changed);
    }
    if pod_of(object).is_some() { with(object) } else { Ok(false) }
}

/// The pod that a workload makes, and whose it is. Source: Kubernetes `apps/v1`, `batch/v1`, `core/v1`.
fn pod_of(object: &mut Value) -> Option<(&mut Value, Owner)> {
    let path: &[&str] = match (object["apiVersion"].as_str()?, object["kind"].as_str()?) {
        ("v1", "Pod") => &[],
        ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch/v1", "Job")
        | ("v1", "ReplicationController") => &["spec", "template"],
        ("batch/v1", "CronJob") => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    };
    let owner = if path.is_empty() { Owner::of(object) } else { Owner(text_of(&object["metadata"]["name"])) };
    let pod = path.iter().try_fold(object, |at, key| at.get_mut(*key))?;
    pod.is_object().then_some((pod, owner))
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn inject_workload(workload: &mut Value, settings: &Settings) -> Result<Decision, InjectError> {
    let namespace = text_of(&workload["metadata"]["namespace"]);
    let Some((pod, owner)) = pod_of(workload) else { return Ok(Decision::Injected) };
    let decision = decide(pod, &namespace, Namespace::Chosen, settings).map_err(InjectError::Shape)?;
    if decision.injects() {
        // A template may have no metadata.
        crate::inject::map(pod, "metadata");
        inject(pod, &owner, settings)?;
    }
    Ok(decision)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "# kept\nkind: ConfigMap\napiVersion: v1\nmetadata:\n    name:   \"odd\"\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec: {containers: [{name: app, image: web:1, readinessProbe: {tcpSocket: {port: 80}}}]}\n";

    #[test]
    fn others_stay_as_they_are() {
        let settings = Settings::default();
        let once = change(TWO, Change::Inject, &settings).unwrap();
        let (before, after) = once.split_once("---\n").unwrap();
        assert_eq!(before, TWO.split_once("---\n").unwrap().0);
        assert!(after.contains("outrigger-sidecar"), "{after}");
        assert_eq!(change(&once, Change::Inject, &settings).unwrap(), once, "twice is as once");
        let back = change(&once, Change::Uninject, &settings).unwrap();
        let read = |text: &str| documents(text).iter().map(|part| read(part.body).unwrap()).collect::<Vec<_>>();
        assert_eq!(read(&back), read(TWO));
        for plain in
            ["a: 1\n---\n# nothing\n---\nb: 2", "a: 1\r\n---\r\nb:   2\r\n", "%YAML 1.2\n--- {kind:   x}\n...\n", ""]
        {
            assert_eq!(change(plain, Change::Inject, &settings).unwrap(), plain);
        }
    }

    #[test]
    fn read_as_kubectl_reads() {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {MORE, containers: [{name: c, image: i}]}\n";
        let cases = [
            ("volumes: [{name: v, secret: {defaultMode: 0400}}]", "defaultMode: 256"),
            ("shareProcessNamespace: yes", "shareProcessNamespace: true"),
            ("nodeSelector: {a: \"0400\", b: \"yes\"}", "a: \"0400\"\n    b: \"yes\""),
        ];
        for (more, expected) in cases {
            for head in ["# first\n", "%YAML 1.2\n---\n", "--- # first\n"] {
                let text = format!("{head}{}", pod.replace("MORE", more));
                let got = change(&text, Change::Inject, &Settings::default()).unwrap();
                assert!(got.contains(expected) && got.contains("outrigger-sidecar"), "{text}: {got}");
                assert_eq!(change(&got, Change::Inject, &Settings::default()).unwrap(), got, "{text}");
            }
        }
    }

    #[test]
    fn on_the_line_of_its_mark() {
        let text = "--- {apiVersion: v1, kind: Pod, spec: {containers: [{name: c, image: i}]}}\n";
        let got = change(text, Change::Inject, &Settings::default()).unwrap();
        assert!(got.starts_with("---\n{") && got.contains("outrigger-sidecar"), "{got}");
    }

    #[test]
    fn explained() {
        let told = explain(TWO, &Settings::default()).unwrap();
        assert_eq!(told.len(), 1);
        assert!(told[0].0 == "Deployment/web" && told[0].1.starts_with("injected"), "{told:?}");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let error = change("kind: [", Change::Inject, &Settings::default()).unwrap_err();
        assert_eq!(error.number, 1);
    }
}
