//! One proxy's stream: who it is, what it may see, and sending what it waits for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::Key;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::value;
use tonic::Status;
use xds::node::{NodeId, metadata};
use xds::{Resource, ResourceSet, type_url};

use super::registry::TypeStatus;
use super::sotw::Said;
use super::{ORDER, Registry, Secrets, follows, secrets};
use crate::ca::{Authority, Proof};
use crate::ir::Families;
use crate::plan::{Flavour, ProxyClass};
use crate::push::{Latest, Published};

/// How long a cluster that is gone stays with a proxy, so that no route names what is not there.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// How often it is looked whether a certificate must be renewed.
pub(super) const RENEWAL_CHECK: Duration = Duration::from_secs(60);

/// The state of a stream, whatever its protocol.
pub(super) struct Stream {
    pub(super) latest: Latest,
    /// Wakes the stream up when the CA changes.
    pub(super) authority: Authority,
    secrets: Arc<Secrets>,
    registry: Arc<Registry>,
    id: u64,
    proof: Proof,
    class: Option<ProxyClass>,
    /// Clusters, with their endpoints, that are gone but linger.
    lingering: Vec<Resource>,
    /// What the proxy was last to see.
    seen: Option<ResourceSet>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.registry.leave(self.id);
    }
}

impl Stream {
    pub(super) fn new(
        latest: Latest,
        authority: Authority,
        secrets: Arc<Secrets>,
        registry: Arc<Registry>,
        proof: Proof,
        protocol: &'static str,
    ) -> Self {
        let id = registry.enter(protocol);
        if let Proof::Account(account) = &proof {
            registry.update(id, |status| status.identity = Some(account.to_string()));
        }
        Self { latest, authority, secrets, registry, id, proof, class: None, lingering: Vec::new(), seen: None }
    }

    /// Takes in who the proxy says it is; only the first node of a stream counts.
    ///
    /// # Errors
    /// When it speaks for another namespace than it has proven to be of.
    pub(super) fn node(&mut self, node: Option<&Node>) -> Result<(), Status> {
        let (None, Some(node)) = (&self.class, node) else { return Ok(()) };
        match node.id.parse::<NodeId>() {
            Ok(id) => {
                if let Proof::Account(account) = &self.proof
                    && account.namespace != id.namespace
                {
                    tracing::warn!(%account, node = node.id, "a proxy speaks for another namespace");
                    return Err(Status::permission_denied("a proxy speaks for its own namespace only"));
                }
                let workload = Key::new(id.namespace, id.name);
                let proxy = format!("{}.{}", workload.name, workload.namespace);
                if !self.latest.borrow().mesh.workloads.contains_key(&workload) {
                    tracing::warn!(%workload, "a proxy of a workload that does not exist waits for it");
                }
                self.registry.update(self.id, |status| (status.node, status.proxy) = (node.id.clone(), proxy));
                self.class = Some(ProxyClass { workload, flavour: flavour(node), families: families(node, id.ip) });
            }
            Err(error) => tracing::warn!(%error, "a proxy that cannot be told is sent nothing"),
        }
        Ok(())
    }

    /// What the proxy is to see now; `None` while its workload does not exist: what it has, it keeps.
    pub(super) fn view(&mut self) -> Option<ResourceSet> {
        let published = self.latest.borrow().clone();
        let class = self.class.as_ref()?;
        let mut set = published.resources(class)?;
        self.linger(&set);
        for resource in &self.lingering {
            if set.get(&resource.type_url, &resource.name).is_none() {
                set.insert(resource.clone());
            }
        }
        set.extend(self.certificates(&published));
        self.seen = Some(set.clone());
        Some(set)
    }

    fn linger(&mut self, now: &ResourceSet) {
        let Some(seen) = &self.seen else { return };
        for kind in [type_url::CLUSTER, type_url::CLUSTER_LOAD_ASSIGNMENT] {
            let before = seen.of_type(kind).into_iter().flat_map(|names| names.values());
            let gone = before.filter(|resource| now.get(kind, &resource.name).is_none());
            let gone: Vec<Resource> = gone.filter(|resource| !self.lingering.contains(resource)).cloned().collect();
            self.lingering.extend(gone);
        }
    }

    /// Whether something lingers.
    pub(super) fn lingers(&self) -> bool {
        !self.lingering.is_empty()
    }

    /// Nothing lingers any longer.
    pub(super) fn settle(&mut self) {
        self.lingering.clear();
        self.seen = None;
    }

    /// Roots for everyone; the certificate only for who has proven to be this very workload.
    fn certificates(&self, published: &Published) -> Vec<Resource> {
        let mut found = vec![self.secrets.roots()];
        let (Proof::Account(account), Some(class)) = (&self.proof, &self.class) else { return found };
        let workload = published.mesh.workloads.get(&class.workload);
        // A pod whose proxy is here before it is seen proves itself by its token alone.
        let unseen = workload.is_none() && published.mesh.settings.cluster;
        if unseen || workload.is_some_and(|workload| workload.account == *account) {
            let domain = published.mesh.settings.trust_domain.as_str();
            match self.secrets.certificate(domain, account) {
                Ok(certificate) => found.push(certificate),
                Err(error) => tracing::error!(%account, %error, "no certificate"),
            }
        } else {
            tracing::warn!(%account, workload = %class.workload, "a proxy asks in another's name: no {}", secrets::CERTIFICATE);
        }
        found
    }

    /// Notes what a request said.
    pub(super) fn note(&self, type_url: &str, nonce: &str, said: &Said) {
        let (status, error) = match said {
            Said::Ack => ("SYNCED", String::new()),
            Said::Nack(error) => {
                let proxy = self.class.as_ref().map(|class| class.workload.to_string()).unwrap_or_default();
                tracing::warn!(proxy, kind = type_url::short(type_url), error, "a proxy refuses what it was sent");
                ("REFUSED", error.clone())
            }
            Said::Stale | Said::Subscribed => return,
        };
        self.set(type_url, TypeStatus { status, nonce: nonce.to_owned(), error });
    }

    /// Notes what was sent.
    pub(super) fn sent(&self, type_url: &str, nonce: &str) {
        self.set(type_url, TypeStatus { status: "STALE", nonce: nonce.to_owned(), error: String::new() });
    }

    fn set(&self, type_url: &str, status: TypeStatus) {
        let Some(known) = ORDER.into_iter().find(|known| *known == type_url) else { return };
        self.registry.update(self.id, |stream| drop(stream.types.insert(type_url::short(known), status)));
    }
}

/// Names of clusters whose endpoints must be sent again, because the clusters were.
pub(super) fn again<'a>(
    type_url: &str,
    names: impl Iterator<Item = &'a str>,
) -> Option<(&'static str, BTreeSet<String>)> {
    follows(type_url).map(|next| (next, names.map(str::to_owned).collect()))
}

/// A text of the node's metadata.
fn text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    match node.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        value::Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Source: Istio's `INSTANCE_IPS`, addresses with commas between them.
fn families(node: &Node, own: IpAddr) -> Families {
    let listed = text(node, metadata::INSTANCE_IPS).unwrap_or_default().split(',');
    Families::of(listed.filter_map(|ip| ip.trim().parse().ok()).chain([own]))
}

fn flavour(node: &Node) -> Flavour {
    let grpc = text(node, metadata::GENERATOR) == Some(metadata::GENERATOR_GRPC);
    match node.user_agent_name.as_str() {
        _ if grpc => Flavour::Grpc,
        "outrigger" => Flavour::Outrigger,
        _ => Flavour::Envoy,
    }
}
