//! Whether a pod gets a sidecar, and which rule decides.

use std::fmt;

use serde_json::Value;

use crate::migrate::{Mesh, Said};
use crate::{LABEL, Marks, STATUS, Settings};

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
    /// By what another mesh's label or annotation of the pod says.
    PodMigrates(Said),
    /// By the namespace's label.
    NamespaceLabel(bool),
    /// By what another mesh's label or annotation of the namespace says.
    NamespaceMigrates(Said),
    /// No: nothing says yes.
    Unasked,
    /// Yes: the caller asks for it, and nothing says no.
    Asked,
}

impl Decision {
    /// Whether the pod gets a sidecar.
    #[must_use]
    pub const fn injects(&self) -> bool {
        match self {
            Self::HostNetwork | Self::SystemNamespace(_) | Self::Injected | Self::Unasked => false,
            Self::PodLabel(yes) | Self::NamespaceLabel(yes) => *yes,
            Self::PodMigrates(said) | Self::NamespaceMigrates(said) => said.yes,
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
            Self::PodMigrates(said) => write!(f, "the pod's {said}"),
            Self::NamespaceLabel(yes) => write!(f, "the namespace's label {LABEL} is {}", word(yes)),
            Self::NamespaceMigrates(said) => write!(f, "the namespace's {said}"),
            Self::Unasked => write!(f, "neither the namespace nor the pod has label {LABEL}: enabled"),
            Self::Asked => f.write_str("it was asked for, and nothing says no"),
        }
    }
}

/// What is known of a pod's namespace.
#[derive(Clone, Copy, Debug)]
pub enum Namespace<'a> {
    /// What its metadata says.
    Known(&'a Marks),
    /// Nothing, but who asks has chosen the pod.
    Chosen,
}

/// Decides about a pod of the namespace called `name`. What other meshes' labels say counts as far as the settings have it.
///
/// # Errors
/// A label of the pod that cannot be meant.
pub fn decide(pod: &Value, name: &str, namespace: Namespace<'_>, settings: &Settings) -> Result<Decision, String> {
    if pod["spec"]["hostNetwork"] == true {
        return Ok(Decision::HostNetwork);
    }
    if SYSTEM.contains(&name) || name == settings.system_namespace {
        return Ok(Decision::SystemNamespace(name.to_owned()));
    }
    let marks = Marks::of(&pod["metadata"]);
    if marks.annotations.contains_key(STATUS) {
        return Ok(Decision::Injected);
    }
    match marks.labels.get(LABEL).map(String::as_str) {
        Some("enabled" | "true") => return Ok(Decision::PodLabel(true)),
        Some("disabled" | "false") => return Ok(Decision::PodLabel(false)),
        Some(other) => return Err(format!("label {LABEL}: `{other}` is neither enabled nor disabled")),
        None => {}
    }
    let others = &settings.migrate_from;
    if let Some(said) = others.iter().find_map(|mesh| mesh.of_pod(&marks)) {
        return Ok(Decision::PodMigrates(said));
    }
    Ok(match namespace {
        Namespace::Known(marks) => of_namespace(marks, others),
        Namespace::Chosen => Decision::Asked,
    })
}

fn of_namespace(marks: &Marks, others: &[Mesh]) -> Decision {
    match marks.labels.get(LABEL) {
        Some(value) => Decision::NamespaceLabel(value == "enabled" || value == "true"),
        None => others
            .iter()
            .find_map(|mesh| mesh.of_namespace(marks))
            .map_or(Decision::Unasked, Decision::NamespaceMigrates),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_rule_decides() {
        let labelled = |key: &str, value: &str| Marks::of(&json!({"labels": {key: value}}));
        let annotated = |key: &str, value: &str| Marks::of(&json!({"annotations": {key: value}}));
        let on = labelled(LABEL, "enabled");
        let off = Marks::default();
        let istio = labelled("istio-injection", "enabled");
        let linkerd = annotated("linkerd.io/inject", "enabled");
        let plain = json!({"metadata": {"labels": {"app": "web"}}, "spec": {}});
        let says = |word: &str| json!({"metadata": {"labels": {LABEL: word}}, "spec": {}});
        let host = json!({"metadata": {"labels": {LABEL: "enabled"}}, "spec": {"hostNetwork": true}});
        let done = json!({"metadata": {"annotations": {STATUS: "{}"}}, "spec": {}});
        let left = json!({"metadata": {"labels": {"sidecar.istio.io/inject": "false"}}, "spec": {}});
        let cases = [
            (&plain, "shop", &on, "injected: the namespace's label outrigger.dev/inject is enabled"),
            (&plain, "shop", &off, "not injected: neither the namespace nor the pod has label"),
            (&says("disabled"), "shop", &on, "not injected: the pod's label outrigger.dev/inject is disabled"),
            (&says("enabled"), "shop", &off, "injected: the pod's label outrigger.dev/inject is enabled"),
            (&says("enabled"), "kube-system", &on, "not injected: namespace kube-system is the system's own"),
            (&plain, "outrigger-system", &on, "not injected: namespace outrigger-system is the system's own"),
            (&host, "shop", &on, "not injected: the pod is on its host's network"),
            (&done, "shop", &on, "not injected: it has a sidecar already"),
            (&plain, "shop", &istio, "injected: the namespace's label istio-injection is enabled"),
            (&left, "shop", &istio, "not injected: the pod's label sidecar.istio.io/inject is false"),
            (&left, "shop", &on, "not injected: the pod's label sidecar.istio.io/inject is false"),
            (&plain, "shop", &labelled(LABEL, "disabled"), "not injected: the namespace's label"),
            // A mesh that is not migrated from says nothing.
            (&plain, "shop", &linkerd, "not injected: neither the namespace nor the pod has label"),
        ];
        let settings = Settings { migrate_from: vec![Mesh::Istio], ..Settings::default() };
        for (pod, name, namespace, expected) in cases {
            let got = decide(pod, name, Namespace::Known(namespace), &settings).unwrap().to_string();
            assert!(got.starts_with(expected), "{got}, not {expected}: {pod}");
        }
        assert_eq!(decide(&plain, "", Namespace::Chosen, &settings).unwrap(), Decision::Asked);
        assert!(decide(&says("perhaps"), "shop", Namespace::Chosen, &settings).is_err());
    }
}
