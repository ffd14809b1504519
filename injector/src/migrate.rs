//! What the labels and annotations of other meshes say of injection, for those who come from them. Only read where the installation
//! asks for it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Marks;

/// A mesh to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mesh {
    /// Source: Istio, "Installing the Sidecar", the table of labels.
    Istio,
    /// Source: Linkerd, "Automatic Proxy Injection".
    Linkerd,
    /// Open Service Mesh. Source: its "Sidecar Injection".
    Osm,
}

/// One label or annotation, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    kind: &'static str,
    key: &'static str,
    value: String,
    /// Whether there is to be a sidecar.
    pub yes: bool,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} is {}", self.kind, self.key, self.value)
    }
}

impl Mesh {
    pub(crate) fn of_pod(self, pod: &Marks) -> Option<Said> {
        match self {
            Self::Istio => label(pod, "sidecar.istio.io/inject", truth)
                .or_else(|| annotation(pod, "sidecar.istio.io/inject", truth)),
            Self::Linkerd => annotation(pod, "linkerd.io/inject", linkerd),
            Self::Osm => annotation(pod, "openservicemesh.io/sidecar-injection", osm),
        }
    }

    pub(crate) fn of_namespace(self, namespace: &Marks) -> Option<Said> {
        match self {
            Self::Istio => {
                label(namespace, "istio-injection", word).or_else(|| label(namespace, "istio.io/rev", revision))
            }
            Self::Linkerd => annotation(namespace, "linkerd.io/inject", linkerd),
            Self::Osm => annotation(namespace, "openservicemesh.io/sidecar-injection", osm),
        }
    }
}

type Read = fn(&str) -> Option<bool>;

fn label(of: &Marks, key: &'static str, read: Read) -> Option<Said> {
    said("label", &of.labels, key, read)
}

fn annotation(of: &Marks, key: &'static str, read: Read) -> Option<Said> {
    said("annotation", &of.annotations, key, read)
}

fn said(kind: &'static str, texts: &BTreeMap<String, String>, key: &'static str, read: Read) -> Option<Said> {
    let value = texts.get(key)?;
    Some(Said { kind, key, value: value.clone(), yes: read(value)? })
}

fn truth(value: &str) -> Option<bool> {
    either(value, &["true"], &["false"])
}

fn word(value: &str) -> Option<bool> {
    either(value, &["enabled"], &["disabled"])
}

/// Whichever revision it is, there is a sidecar.
fn revision(value: &str) -> Option<bool> {
    (!value.is_empty()).then_some(true)
}

fn linkerd(value: &str) -> Option<bool> {
    if value == "ingress" { Some(true) } else { word(value) }
}

fn osm(value: &str) -> Option<bool> {
    either(&value.to_lowercase(), &["enabled", "yes", "true"], &["disabled", "no", "false"])
}

fn either(value: &str, yes: &[&str], no: &[&str]) -> Option<bool> {
    if yes.contains(&value) { Some(true) } else { no.contains(&value).then_some(false) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_mesh_by_its_own_words() {
        let label = |key: &str, value: &str| json!({"labels": {key: value}});
        let annotation = |key: &str, value: &str| json!({"annotations": {key: value}});
        let check = |said: Option<Said>, metadata: &Value, expected: Option<bool>| {
            assert_eq!(said.map(|said| said.yes), expected, "{metadata}");
        };
        for (mesh, pod, expected) in [
            (Mesh::Istio, label("sidecar.istio.io/inject", "true"), Some(true)),
            (Mesh::Istio, label("sidecar.istio.io/inject", "false"), Some(false)),
            (Mesh::Istio, annotation("sidecar.istio.io/inject", "false"), Some(false)),
            (Mesh::Istio, label("istio-injection", "enabled"), None),
            (Mesh::Linkerd, annotation("linkerd.io/inject", "ingress"), Some(true)),
            (Mesh::Linkerd, annotation("linkerd.io/inject", "disabled"), Some(false)),
            (Mesh::Linkerd, label("linkerd.io/inject", "enabled"), None),
            (Mesh::Osm, annotation("openservicemesh.io/sidecar-injection", "Yes"), Some(true)),
            (Mesh::Osm, annotation("openservicemesh.io/sidecar-injection", "disabled"), Some(false)),
        ] {
            check(mesh.of_pod(&Marks::of(&pod)), &pod, expected);
        }
        for (mesh, namespace, expected) in [
            (Mesh::Istio, label("istio-injection", "enabled"), Some(true)),
            (Mesh::Istio, label("istio-injection", "disabled"), Some(false)),
            (Mesh::Istio, label("istio.io/rev", "1-30"), Some(true)),
            (Mesh::Istio, label("sidecar.istio.io/inject", "true"), None),
            (Mesh::Linkerd, annotation("linkerd.io/inject", "enabled"), Some(true)),
            (Mesh::Osm, annotation("openservicemesh.io/sidecar-injection", "enabled"), Some(true)),
            (Mesh::Osm, label("openservicemesh.io/monitored-by", "osm"), None),
        ] {
            check(mesh.of_namespace(&Marks::of(&namespace)), &namespace, expected);
        }
    }
}
