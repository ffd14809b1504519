//! Rules that grep can check. Each says in its message what to do.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The files of `folder` that hold any of `words` and for which `allowed` does not say so.
fn offenders(folder: &str, words: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let holds = |text: &str| {
        text.lines().any(|line| !line.trim_start().starts_with("//") && words.iter().any(|word| line.contains(word)))
    };
    sources(folder).into_iter().filter(|(name, text)| !allowed(name) && holds(text)).map(|(name, _)| name).collect()
}

fn none(offenders: &[String], rule: &str) {
    assert!(offenders.is_empty(), "{rule}: {offenders:?}");
}

#[test]
fn envoy_messages_stay_where_they_belong() {
    let pilot = |name: &str| ["/generate/", "/ads/", "/ca/"].iter().any(|part| name.contains(part));
    none(&offenders("pilot/src", &["envoy_types"], pilot), "Envoy's messages only in generate/, ads/ and ca/");
    let sidecar = |name: &str| {
        // Tests of a module build the messages that its config.rs reads.
        name.ends_with("/config.rs")
            || name.ends_with("/tests.rs")
            || ["/config/", "/bootstrap", "/discovery/", "/admin/"].iter().any(|part| name.contains(part))
    };
    none(
        &offenders("sidecar/src", &["envoy_types"], sidecar),
        "Envoy's messages only in config.rs, config/, bootstrap, discovery/, admin/",
    );
}

#[test]
fn pure_stages_are_pure() {
    let impure = [
        "tracing::info",
        "tracing::warn",
        "tracing::error",
        "tracing::debug",
        "std::fs",
        "SystemTime::now",
        "Instant::now",
        "tokio::",
        "fastrand::",
    ];
    for stage in ["pilot/src/mesh", "pilot/src/ir", "pilot/src/plan", "pilot/src/generate", "smi-adapter/src/translate"]
    {
        none(&offenders(stage, &impure, |_| false), "no I/O, no clock, no log in pure stages");
    }
}

#[test]
fn kubernetes_clients_say_so() {
    let named = |name: &str| name.contains("kubernetes");
    none(
        &offenders("pilot/src", &["kube::", "k8s_openapi"], named),
        "a Kubernetes client only under names that say `kubernetes`",
    );
    none(
        &offenders("sidecar/src", &["kube::", "k8s_openapi", "api::"], |name| name.contains("_api")),
        "the sidecar knows nothing of Kubernetes, nor of `api`",
    );
}

#[test]
fn files_say_what_they_decide() {
    for folder in ["api/src", "cli/src", "daemon/src", "pilot/src", "sidecar/src", "smi-adapter/src", "xds/src"] {
        let silent: Vec<String> =
            sources(folder).into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name).collect();
        none(&silent, "each file opens with `//!`");
    }
}

#[test]
fn no_drawers_for_everything() {
    for folder in ["api", "cli", "daemon", "pilot", "sidecar", "smi-adapter", "xds"] {
        let names = ["common", "util", "utils", "helpers", "helper", "prelude", "misc"];
        let drawers: Vec<String> = sources(folder)
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| {
                names.iter().any(|word| name.ends_with(&format!("/{word}.rs")) || name.contains(&format!("/{word}/")))
            })
            .collect();
        none(&drawers, "name a module for what it decides");
    }
}

/// A field that the page says is refused is named where it is refused.
#[test]
fn the_page_on_envoy_support_is_true() {
    let page = std::fs::read_to_string(root().join("docs/envoy-support.md")).unwrap();
    let section = page.split("## Refused by path").nth(1).unwrap().split("\n## ").next().unwrap();
    let code: String = sources("sidecar/src").into_iter().map(|(_, text)| text).collect();
    let fields: Vec<&str> = section.split('`').skip(1).step_by(2).collect();
    assert!(fields.len() > 20, "{fields:?}");
    let unknown: Vec<&&str> = fields.iter().filter(|field| !code.contains(&format!("\"{field}\""))).collect();
    assert!(unknown.is_empty(), "docs/envoy-support.md names what the sidecar does not refuse: {unknown:?}");
}
