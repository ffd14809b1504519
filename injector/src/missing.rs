//! Pods that are there without a sidecar although they should have one, and what to do about each.

use std::fmt;

use serde_json::Value;

use crate::decide::{Decision, Namespace, decide};
use crate::{Marks, Owner, Settings};

/// A pod without the sidecar that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The rule that says so.
    decision: Decision,
    namespace: String,
    /// As `kubectl rollout restart` takes it; `None`: it has no controller that makes it anew.
    restart: Option<String>,
}

impl Missing {
    /// Looks at a pod as the API server shows it. One that has ended or is on its way out needs no sidecar any longer.
    #[must_use]
    pub fn of(pod: &Value, namespace: &str, marks: &Marks, settings: &Settings) -> Option<Self> {
        let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        if ended || pod["metadata"].get("deletionTimestamp").is_some_and(|at| !at.is_null()) {
            return None;
        }
        let decision = decide(pod, namespace, Namespace::Known(marks), settings).ok()?;
        let missing = || Self { decision: decision.clone(), namespace: namespace.to_owned(), restart: restart(pod) };
        decision.injects().then(missing)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it has no sidecar, but new pods like it are {}. ", self.decision)?;
        match &self.restart {
            Some(what) => write!(f, "To bring it in: kubectl -n {} rollout restart {what}", self.namespace),
            None => f.write_str("To bring it in: delete it, and have it made anew"),
        }
    }
}

fn restart(pod: &Value) -> Option<String> {
    let owners = pod["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    let name = Owner::of(pod).0;
    match owner["kind"].as_str()? {
        "ReplicaSet" if owner["name"] != name.as_str() => Some(format!("deployment/{name}")),
        "StatefulSet" => Some(format!("statefulset/{name}")),
        "DaemonSet" => Some(format!("daemonset/{name}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{LABEL, STATUS};

    #[test]
    fn told_with_what_to_do() {
        let on = Marks::of(&json!({"labels": {LABEL: "enabled"}}));
        let owned = |kind: &str, name: &str| {
            let owners = [json!({"kind": kind, "name": name, "controller": true})];
            json!({"metadata": {"name": "web-5d8-x", "labels": {"pod-template-hash": "5d8"}, "ownerReferences": owners}})
        };
        let by_label = "injected: the namespace's label outrigger.dev/inject is enabled";
        for (pod, told) in [
            (owned("ReplicaSet", "web-5d8"), Some("kubectl -n shop rollout restart deployment/web")),
            (owned("StatefulSet", "db"), Some("kubectl -n shop rollout restart statefulset/db")),
            (owned("Job", "once"), Some("delete it")),
            (json!({"metadata": {"name": "alone"}}), Some(by_label)),
            (json!({"metadata": {"name": "done"}, "status": {"phase": "Succeeded"}}), None),
            (json!({"metadata": {"name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"}}), None),
            (json!({"metadata": {"name": "in", "annotations": {STATUS: "{}"}}}), None),
            (json!({"metadata": {"name": "out", "labels": {LABEL: "disabled"}}}), None),
        ] {
            let said = Missing::of(&pod, "shop", &on, &Settings::default()).map(|missing| missing.to_string());
            let fits = match (&said, told) {
                (Some(said), Some(told)) => said.contains(told),
                (said, told) => said.is_none() && told.is_none(),
            };
            assert!(fits, "{said:?}, not {told:?}");
        }
    }
}
