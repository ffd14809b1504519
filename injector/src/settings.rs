//! What an installation says of its sidecars. Kept in ConfigMap `outrigger-injector`, so that the webhook and `outrigger inject`
//! do the same.

use serde::{Deserialize, Serialize};

use crate::migrate::Mesh;

/// An image and when it is pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Image {
    /// `REGISTRY/NAME`.
    pub repository: String,
    /// A version.
    pub tag: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
}

impl Image {
    /// `REPOSITORY:TAG`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// Whether sidecars are native: init containers that go on running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NativeSidecars {
    /// Where the server has them.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What an installation says of its sidecars.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Settings {
    /// The sidecar's.
    pub image: Image,
    /// The capture step's.
    pub init_image: Image,
    /// Native or classic.
    pub native_sidecars: NativeSidecars,
    /// Whether the server has native sidecars.
    pub server_has_native: bool,
    /// Whose labels and annotations count besides ours.
    pub migrate_from: Vec<Mesh>,
    /// The pilot's secure address.
    pub pilot: String,
    /// The namespace of everything of ours.
    pub system_namespace: String,
    /// The end of every Service's full name.
    pub cluster_domain: String,
}

impl Default for Settings {
    fn default() -> Self {
        let image = |name: &str| Image {
            repository: name.to_owned(),
            tag: env!("CARGO_PKG_VERSION").to_owned(),
            pull_policy: "IfNotPresent".to_owned(),
        };
        Self {
            image: image("outrigger"),
            init_image: image("outrigger-init"),
            native_sidecars: NativeSidecars::Auto,
            server_has_native: true,
            migrate_from: Vec::new(),
            pilot: "outrigger-pilot.outrigger-system.svc:15012".to_owned(),
            system_namespace: "outrigger-system".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        }
    }
}

impl Settings {
    /// Whether pods that say nothing of it get native sidecars.
    #[must_use]
    pub const fn native(&self) -> bool {
        match self.native_sidecars {
            NativeSidecars::Auto => self.server_has_native,
            NativeSidecars::Always => true,
            NativeSidecars::Never => false,
        }
    }
}
