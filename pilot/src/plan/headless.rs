//! Services without an address of their own, for which a split, a route or a policy is written: requests for their names, at
//! whatever pod's address they are sent. All other calls go to the pod that was called.

use std::collections::{BTreeMap, BTreeSet};

use api::Key;
use api::scalar::PortRef;

use super::outbound;
use crate::ir::VirtualHost;
use crate::mesh::{MeshSnapshot, Policy, Protocol, Service, ServicePort};

/// Virtual hosts by the service accounts of the pods at which they are called; by none, for pods outside the mesh.
pub(super) type Hosts<'a> = BTreeMap<Option<&'a Key>, Vec<VirtualHost>>;

pub(super) fn hosts<'a>(mesh: &'a MeshSnapshot, namespace: &str) -> Hosts<'a> {
    let defaults = Policy::of_defaults(&mesh.settings);
    let mut hosts = Hosts::new();
    for service in mesh.services.values().filter(|service| service.addresses.is_empty()) {
        for port in service.ports.values().filter(|port| port.protocol != Protocol::Tcp) {
            let routing = mesh.routing(&(service.key.clone(), port.port), namespace);
            if routing.is_none() && *service.policy == defaults {
                continue;
            }
            let host = host(mesh, service, port, namespace);
            for account in accounts(mesh, service, port) {
                hosts.entry(account).or_default().push(host.clone());
            }
        }
    }
    hosts
}

/// Those of the port's endpoints.
fn accounts<'a>(mesh: &'a MeshSnapshot, service: &Service, port: &ServicePort) -> BTreeSet<Option<&'a Key>> {
    let endpoints = mesh.endpoints.get(&(service.key.clone(), port.port));
    let workloads = endpoints
        .into_iter()
        .flat_map(|endpoints| endpoints.iter())
        .map(|endpoint| mesh.workloads.get(endpoint.workload.as_ref()?));
    workloads.map(|workload| Some(&workload?.account)).collect()
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
