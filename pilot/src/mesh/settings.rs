//! What holds for the whole mesh: MeshConfig `default`, with the pilot's own settings for what it leaves open.

use api::mesh_config::{AccessControl, AccessLog, MtlsMode, NAME, OutboundPolicy, PathRegex, PolicyDefaults, Tracing};
use api::scalar::TrustDomain;
use api::{Key, Objects};

/// The pilot's own settings: its flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domains {
    /// `--trust-domain`, for when MeshConfig names none.
    pub trust_domain: TrustDomain,
    /// `--cluster-domain`, the end of every Service's full name.
    pub cluster_domain: String,
    /// Whether objects come from a cluster, where every proxy is a captured pod's.
    pub cluster: bool,
}

impl Default for Domains {
    fn default() -> Self {
        Self { trust_domain: TrustDomain::default(), cluster_domain: "cluster.local".to_owned(), cluster: false }
    }
}

/// What holds for the whole mesh, with nothing left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The trust domain of all identities.
    pub trust_domain: TrustDomain,
    /// Others whose certificates are accepted.
    pub extra_trust_domains: Vec<TrustDomain>,
    /// The end of every Service's full name.
    pub cluster_domain: String,
    /// Whether objects come from a cluster, where every proxy is a captured pod's.
    pub cluster: bool,
    /// What an inbound connection must be.
    pub mtls: MtlsMode,
    /// What a request meets that no TrafficTarget allows.
    pub access_control: AccessControl,
    /// What a call to a host that no Service names meets.
    pub outbound_policy: OutboundPolicy,
    /// Where spans go.
    pub tracing: Option<Tracing>,
    /// The sidecars' access logs.
    pub access_log: AccessLog,
    /// For Services without a policy.
    pub defaults: PolicyDefaults,
    /// How regular expressions of SMI are read.
    pub path_regex: PathRegex,
}

impl Default for Settings {
    fn default() -> Self {
        build(&Objects::default(), &Domains::default())
    }
}

impl Settings {
    /// The identity of a service account's workloads. Source: SPIFFE-ID, with Istio's path.
    #[must_use]
    pub fn identity(&self, account: &Key) -> String {
        format!("spiffe://{}/ns/{}/sa/{}", self.trust_domain, account.namespace, account.name)
    }

    /// Every trust domain whose certificates are accepted, the mesh's own first.
    pub fn trust_domains(&self) -> impl Iterator<Item = &TrustDomain> {
        std::iter::once(&self.trust_domain).chain(&self.extra_trust_domains)
    }
}

pub(super) fn build(objects: &Objects, domains: &Domains) -> Settings {
    let written = objects.mesh_configs.get(&Key::new("", NAME)).map(|config| config.spec.clone()).unwrap_or_default();
    Settings {
        trust_domain: written.trust_domain.unwrap_or_else(|| domains.trust_domain.clone()),
        extra_trust_domains: written.extra_trust_domains,
        cluster_domain: domains.cluster_domain.clone(),
        cluster: domains.cluster,
        mtls: written.mtls.mode,
        access_control: written.access_control,
        outbound_policy: written.outbound_policy,
        tracing: written.tracing,
        access_log: written.access_log,
        defaults: written.defaults,
        path_regex: written.smi.path_regex,
    }
}
