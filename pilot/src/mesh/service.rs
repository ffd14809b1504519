//! Services: their names, ports and the policy of calls to them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::core::{ServicePort as Written, Transport};
use api::scalar::PortRef;
use api::{Key, Objects};

use super::policy::Policy;
use super::{Protocol, Settings};

/// A Service of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: Key,
    /// `NAME.NAMESPACE.svc.CLUSTERDOMAIN`.
    pub fqdn: String,
    /// The TCP ports, by number.
    pub ports: BTreeMap<u16, ServicePort>,
    /// The virtual addresses; none for headless Services and outside a cluster.
    pub addresses: Vec<IpAddr>,
    /// Whether it was asked to have no virtual address.
    pub headless: bool,
    /// How calls to it behave.
    pub policy: Arc<Policy>,
}

/// A TCP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// May be empty.
    pub name: String,
    /// What callers name.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// The port of what the Service selects.
    pub target: PortRef,
}

impl Service {
    /// The port that a host name without one means: 80, or else the only HTTP port.
    #[must_use]
    pub fn default_port(&self) -> Option<&ServicePort> {
        let mut http = self.ports.values().filter(|port| port.protocol != Protocol::Tcp);
        let only = http.next().filter(|_| http.next().is_none());
        self.ports.get(&80).filter(|port| port.protocol != Protocol::Tcp).or(only)
    }

    /// The names by which callers in `namespace` reach it, without ports, the shortest first.
    #[must_use]
    pub fn names(&self, namespace: &str) -> Vec<String> {
        let Key { namespace: own, name } = &self.key;
        let mut names = if own == namespace { vec![name.clone()] } else { Vec::new() };
        names.extend([format!("{name}.{own}"), format!("{name}.{own}.svc"), self.fqdn.clone()]);
        names
    }
}

pub(super) fn build(
    objects: &Objects,
    settings: &Settings,
    mut policies: BTreeMap<Key, Arc<Policy>>,
) -> BTreeMap<Key, Arc<Service>> {
    let fallback = Arc::new(Policy::of_defaults(settings));
    let services = objects.services.iter().map(|(key, stored)| {
        let spec = &stored.spec;
        let ports = spec.ports.iter().filter(|port| port.protocol == Transport::Tcp).map(|p| (p.port.get(), port(p)));
        let service = Service {
            key: key.clone(),
            fqdn: format!("{}.{}.svc.{}", key.name, key.namespace, settings.cluster_domain),
            ports: ports.collect(),
            addresses: spec.addresses().collect(),
            headless: spec.headless(),
            policy: policies.remove(key).unwrap_or_else(|| fallback.clone()),
        };
        (key.clone(), Arc::new(service))
    });
    services.collect()
}

fn port(written: &Written) -> ServicePort {
    ServicePort {
        name: written.name.clone(),
        port: written.port.get(),
        protocol: Protocol::of(written.app_protocol.as_deref(), &written.name),
        target: written.target_port.clone().unwrap_or(PortRef::Number(written.port)),
    }
}

/// What a host name would name: `SVC` of `namespace`, `SVC.NS`, `SVC.NS.svc` or `SVC.NS.svc.CLUSTERDOMAIN`.
pub(super) fn named(host: &str, namespace: &str, cluster_domain: &str) -> Option<Key> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let short = match host.strip_suffix(&cluster_domain.to_ascii_lowercase()) {
        Some(before) => before.strip_suffix(".svc.")?,
        None => host.strip_suffix(".svc").unwrap_or(&host),
    };
    let mut parts = short.split('.');
    let name = parts.next().filter(|name| !name.is_empty())?;
    let (own, rest) = (parts.next(), parts.next());
    if rest.is_some() || (own.is_none() && short.len() != host.len()) {
        return None;
    }
    Some(Key::new(own.unwrap_or(namespace), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        let cases = [
            ("web", Some("shop/web")),
            ("web.ops", Some("ops/web")),
            ("web.ops.svc", Some("ops/web")),
            ("WEB.ops.svc.cluster.local.", Some("ops/web")),
            ("web.svc", None),
            ("web.ops.svc.other.domain", None),
            ("www.example.com", None),
            ("", None),
            (".ops", None),
        ];
        for (host, expected) in cases {
            let got = named(host, "shop", "cluster.local").map(|key| key.to_string());
            assert_eq!(got.as_deref(), expected, "{host}");
        }
    }
}
