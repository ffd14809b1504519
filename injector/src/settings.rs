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

/// Who signs pods' certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct CertificateAuthority {
    /// `HOST:PORT` of a CreateCertificate service over TLS; empty: the pilot.
    pub address: String,
    /// The audience of the token that is shown to it.
    pub audience: String,
    /// The ConfigMap with its roots, in every namespace; empty: Istio's where an address is given.
    pub roots_config_map: String,
}

impl Default for CertificateAuthority {
    fn default() -> Self {
        // Never empty: a token without an audience is one for the API server.
        Self { address: String::new(), audience: "istio-ca".to_owned(), roots_config_map: String::new() }
    }
}

impl CertificateAuthority {
    /// Where it is asked, if it is not the pilot.
    #[must_use]
    pub fn external(&self) -> Option<&str> {
        Some(self.address.as_str()).filter(|address| !address.is_empty())
    }

    /// The ConfigMap of roots that are trusted beside the pilot's.
    #[must_use]
    pub fn roots(&self) -> Option<&str> {
        match self.roots_config_map.as_str() {
            "" => self.external().map(|_| ISTIO_ROOTS),
            named => Some(named),
        }
    }
}

/// What istio-csr and istiod write into every namespace.
const ISTIO_ROOTS: &str = "istio-ca-root-cert";

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
    /// What identities begin with.
    pub trust_domain: String,
    /// Who signs certificates.
    pub ca: CertificateAuthority,
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
            trust_domain: "cluster.local".to_owned(),
            ca: CertificateAuthority::default(),
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
