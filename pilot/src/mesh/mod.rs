//! Objects → the mesh: who is there, what they serve and reach, who may call whom. Pure; knows nothing of Envoy.
//!
//! Nothing fails as a whole. What does not make sense is left out and told beside the result.

mod endpoints;
mod policy;
mod protocol;
pub mod routing;
mod service;
mod settings;
mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::access::Grant;
use api::routing::PortRouting;
use api::{Key, Objects, Problem};

pub use endpoints::Endpoint;
pub use policy::{CallPolicy, MatchedCalls, Policy};
pub use protocol::Protocol;
pub use service::{Service, ServicePort};
pub use settings::{Domains, Settings};
pub use workload::{Outbound, TcpOutbound, Workload, WorkloadKind, WorkloadPort};

/// A Service's port.
pub type PortKey = (Key, u16);

/// The whole mesh at one moment. Replaced, never edited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshSnapshot {
    /// What holds for all of it.
    pub settings: Settings,
    /// The Services, with the policies of calls to them.
    pub services: BTreeMap<Key, Arc<Service>>,
    /// The Workloads and meshed pods, by namespace and name.
    pub workloads: BTreeMap<Key, Arc<Workload>>,
    /// Where each Service's port is served, in order of address and port. Every TCP port is there, be it with no endpoint.
    pub endpoints: BTreeMap<PortKey, Arc<Vec<Endpoint>>>,
    /// What callers of a port meet in place of its own endpoints. Those for some callers come before those for all.
    pub routings: BTreeMap<PortKey, Vec<Arc<PortRouting>>>,
    /// What TrafficTargets allow, by the service account that is called.
    pub grants: BTreeMap<Key, Vec<Arc<Grant>>>,
}

/// Builds the mesh. `domains` are the pilot's own settings, for what MeshConfig leaves open.
#[must_use]
pub fn build(objects: &Objects, domains: &Domains) -> (MeshSnapshot, Vec<Problem>) {
    let settings = settings::build(objects, domains);
    let (workloads, mut problems) = workload::build(objects, &settings.cluster_domain);
    let (policies, more) = policy::build(objects, &settings);
    problems.extend(more);
    let services = service::build(objects, &settings, policies);
    let (endpoints, more) = endpoints::build(objects, &services, &workloads);
    problems.extend(more);
    let (found, more) = routing::build(objects, settings.path_regex);
    problems.extend(more);
    let mut routings: BTreeMap<PortKey, Vec<Arc<PortRouting>>> = BTreeMap::new();
    for routing in found {
        routings.entry((routing.service.clone(), routing.port)).or_default().push(Arc::new(routing));
    }
    for at_port in routings.values_mut() {
        at_port.sort_by(|a, b| b.callers.cmp(&a.callers));
    }
    let (found, more) = smi_adapter::translate::targets(objects, settings.path_regex);
    problems.extend(more);
    let mut grants: BTreeMap<Key, Vec<Arc<Grant>>> = BTreeMap::new();
    for grant in found {
        grants.entry(grant.destination.clone()).or_default().push(Arc::new(grant));
    }
    for problem in &mut problems {
        objects.locate(problem);
    }
    (MeshSnapshot { settings, services, workloads, endpoints, routings, grants }, problems)
}

impl MeshSnapshot {
    /// The Service that a host name means to callers in `namespace`: `SVC`, `SVC.NS`, `SVC.NS.svc` or the full name, in any
    /// case and without a port.
    #[must_use]
    pub fn service_named(&self, host: &str, namespace: &str) -> Option<&Arc<Service>> {
        let key = service::named(host, namespace, &self.settings.cluster_domain)?;
        self.services.get(&key)
    }

    /// What callers in `namespace` meet at a Service's port, if not its own endpoints.
    #[must_use]
    pub fn routing(&self, port: &PortKey, namespace: &str) -> Option<&Arc<PortRouting>> {
        let at_port = self.routings.get(port)?;
        at_port.iter().find(|routing| routing.callers.as_deref().is_none_or(|callers| callers == namespace))
    }

    /// The grants of a service account; empty both where no target names it and where all that do allow nothing.
    #[must_use]
    pub fn grants_of(&self, account: &Key) -> &[Arc<Grant>] {
        self.grants.get(account).map_or(&[], Vec::as_slice)
    }

    /// Whether what no target allows is denied at the workloads of a service account.
    #[must_use]
    pub fn denies_by_default(&self, account: &Key) -> bool {
        use api::mesh_config::AccessControl;
        match self.settings.access_control {
            AccessControl::Strict => true,
            AccessControl::Auto => self.grants.contains_key(account),
            AccessControl::Permissive => false,
        }
    }
}

#[cfg(test)]
mod tests;
