//! What istiod sends to a captured sidecar is taken whole: one listener of each kind and the clusters that they name, as
//! they came by xDS from istiod of 2026-08-27 with its own filters on; access logs' formats are cut.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

const SENT: &str = include_str!("bootstrap.json");

fn validate(text: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sidecar")).args(["--config-yaml", text, "--mode", "validate"]).output().unwrap()
}

#[test]
fn all_is_taken() {
    let out = validate(SENT);
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
}

/// Each of Istio's own messages is one that counts: with another name in its place the whole is refused.
#[test]
fn what_is_not_known_is_refused_by_path() {
    for (message, path) in [
        ("envoy.tcp.metadataexchange.config.MetadataExchange", "typed_config"),
        ("io.istio.http.peer_metadata.Config", "http_filters[0]"),
        ("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", "http_filters[2]"),
        ("stats.PluginConfig", "typed_config"),
    ] {
        let url = format!("type.googleapis.com/{message}\"");
        assert!(SENT.contains(&url), "{message}");
        let out = validate(&SENT.replace(&url, "type.googleapis.com/no.such.Type\""));
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{message}: {said}");
        assert!(said.contains("no.such.Type") && said.contains(path), "{message}: {path} in {said}");
    }
}
