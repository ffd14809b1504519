//! Whether a pod gets a sidecar, and which rule decides.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::{LABEL, STATUS};

/// Namespaces of the system's own, which never are in the mesh; ours is another.
const SYSTEM: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// What decides about a pod, the first that applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No: it shares the network of its host, whose connections are not to be captured.
    HostNetwork,
    /// No: the namespace is the system's or ours.
    SystemNamespace(String),
    /// No: it has one already.
    Injected,
    /// By the pod's own label.
    PodLabel(bool),
    /// By the namespace's label.
    NamespaceLabel(bool),
    /// Yes: the caller asks for it, and nothing says no.
    Asked,
}

impl Decision {
    /// Whether the pod gets a sidecar.
    #[must_use]
    pub const fn injects(&self) -> bool {
        match self {
            Self::HostNetwork | Self::SystemNamespace(_) | Self::Injected => false,
            Self::PodLabel(yes) | Self::NamespaceLabel(yes) => *yes,
            Self::Asked => true,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |yes: &bool| if *yes { "enabled" } else { "disabled" };
        let verdict = if self.injects() { "injected" } else { "not injected" };
        write!(f, "{verdict}: ")?;
        match self {
            Self::HostNetwork => f.write_str("the pod is on its host's network (spec.hostNetwork)"),
            Self::SystemNamespace(name) => write!(f, "namespace {name} is the system's own"),
            Self::Injected => write!(f, "it has a sidecar already (annotation {STATUS})"),
            Self::PodLabel(yes) => write!(f, "the pod's label {LABEL} is {}", word(yes)),
            Self::NamespaceLabel(true) => write!(f, "the namespace's label {LABEL} is enabled"),
            Self::NamespaceLabel(false) => write!(f, "neither the namespace nor the pod has label {LABEL}: enabled"),
            Self::Asked => f.write_str("it was asked for, and nothing says no"),
        }
    }
}

/// What is known of a pod's namespace.
#[derive(Clone, Copy, Debug)]
pub enum Namespace<'a> {
    /// Its labels.
    Labels(&'a BTreeMap<String, String>),
    /// Nothing, but who asks has chosen the pod.
    Chosen,
}

/// Decides about a pod of a namespace; `system` is ours. `None` for a label that is neither `enabled` nor `disabled`.
///
/// # Errors
/// A label of the pod that cannot be meant.
pub fn decide(pod: &Value, name: &str, namespace: Namespace<'_>, system: &str) -> Result<Decision, String> {
    if pod["spec"]["hostNetwork"] == true {
        return Ok(Decision::HostNetwork);
    }
    if SYSTEM.contains(&name) || name == system {
        return Ok(Decision::SystemNamespace(name.to_owned()));
    }
    if pod["metadata"]["annotations"].get(STATUS).is_some() {
        return Ok(Decision::Injected);
    }
    match pod["metadata"]["labels"].get(LABEL).and_then(Value::as_str) {
        Some("enabled" | "true") => return Ok(Decision::PodLabel(true)),
        Some("disabled" | "false") => return Ok(Decision::PodLabel(false)),
        Some(other) => return Err(format!("label {LABEL}: `{other}` is neither enabled nor disabled")),
        None => {}
    }
    Ok(match namespace {
        Namespace::Labels(labels) => {
            Decision::NamespaceLabel(labels.get(LABEL).is_some_and(|value| value == "enabled" || value == "true"))
        }
        Namespace::Chosen => Decision::Asked,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_rule_decides() {
        let on = BTreeMap::from([(LABEL.to_owned(), "enabled".to_owned())]);
        let off = BTreeMap::new();
        let plain = json!({"metadata": {"labels": {"app": "web"}}, "spec": {}});
        let says = |word: &str| json!({"metadata": {"labels": {LABEL: word}}, "spec": {}});
        let host = json!({"metadata": {"labels": {LABEL: "enabled"}}, "spec": {"hostNetwork": true}});
        let done = json!({"metadata": {"annotations": {STATUS: "{}"}}, "spec": {}});
        let cases = [
            (&plain, "shop", &on, Decision::NamespaceLabel(true)),
            (&plain, "shop", &off, Decision::NamespaceLabel(false)),
            (&says("disabled"), "shop", &on, Decision::PodLabel(false)),
            (&says("enabled"), "shop", &off, Decision::PodLabel(true)),
            (&says("enabled"), "kube-system", &on, Decision::SystemNamespace("kube-system".to_owned())),
            (&plain, "outrigger-system", &on, Decision::SystemNamespace("outrigger-system".to_owned())),
            (&host, "shop", &on, Decision::HostNetwork),
            (&done, "shop", &on, Decision::Injected),
        ];
        for (pod, name, labels, expected) in cases {
            let got = decide(pod, name, Namespace::Labels(labels), "outrigger-system").unwrap();
            assert_eq!(got, expected, "{pod}");
        }
        assert_eq!(decide(&plain, "", Namespace::Chosen, "outrigger-system").unwrap(), Decision::Asked);
        assert!(decide(&says("perhaps"), "shop", Namespace::Chosen, "outrigger-system").is_err());
    }
}
