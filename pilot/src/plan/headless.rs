//! Services without an address of their own, for which a split, a route or a policy is written: requests for their names, at
//! whatever pod's address they are sent. All other calls go to the pod that was called.

use std::collections::BTreeSet;

use api::Key;
use api::scalar::PortRef;

use super::outbound;
use crate::ir::VirtualHost;
use crate::mesh::{MeshSnapshot, Policy, Protocol, Service, ServicePort};

/// The virtual hosts of those that have a pod of `account`, or, without one, a pod outside the mesh.
pub(super) fn hosts(mesh: &MeshSnapshot, namespace: &str, account: Option<&Key>) -> Vec<VirtualHost> {
    let defaults = Policy::of_defaults(&mesh.settings);
    let services = mesh.services.values().filter(|service| service.addresses.is_empty());
    let ports = services.flat_map(|service| service.ports.values().map(move |port| (service, port)));
    let meant = ports.filter(|(service, port)| {
        let routing = mesh.routing(&(service.key.clone(), port.port), namespace);
        port.protocol != Protocol::Tcp
            && (routing.is_some() || *service.policy != defaults)
            && is_at(mesh, service, port, account)
    });
    meant.map(|(service, port)| host(mesh, service, port, namespace)).collect()
}

fn is_at(mesh: &MeshSnapshot, service: &Service, port: &ServicePort, account: Option<&Key>) -> bool {
    let endpoints = mesh.endpoints.get(&(service.key.clone(), port.port));
    endpoints.is_some_and(|endpoints| {
        endpoints.iter().any(|endpoint| {
            let workload = endpoint.workload.as_ref().and_then(|key| mesh.workloads.get(key));
            workload.map(|workload| &workload.account) == account
        })
    })
}

/// Callers name the port that they connect to, which is the pods' own.
fn host(mesh: &MeshSnapshot, service: &Service, port: &ServicePort, namespace: &str) -> VirtualHost {
    let mut host = outbound::host(mesh, &service.key, service, port, namespace);
    let taken: BTreeSet<u16> = service.ports.values().map(|other| other.port).collect();
    let first = |number: u16| {
        let same = service.ports.values().find(|other| target(other) == Some(number));
        same.is_some_and(|other| other.port == port.port)
    };
    if let Some(number) = target(port).filter(|number| !taken.contains(number) && first(*number)) {
        host.domains.extend(service.names(namespace).into_iter().map(|name| format!("{name}:{number}")));
    }
    host
}

fn target(port: &ServicePort) -> Option<u16> {
    match port.target {
        PortRef::Number(number) => Some(number.get()),
        PortRef::Name(_) => None,
    }
}
