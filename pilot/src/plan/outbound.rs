//! How a workload reaches out, in explicit mode: one address for HTTP, one for each TCP service.

use std::collections::BTreeSet;

use api::Key;
use api::mesh_config::OutboundPolicy;
use api::routing::{Actions, Backend};

use super::{names, routes};
use crate::ir::{
    Action, Forward, HttpAccess, Listener, OutboundHttp, OutboundTcp, ProxyPlan, Route, RouteTable, Telemetry,
    VirtualHost, Weighted,
};
use crate::mesh::{MeshSnapshot, Protocol, Service, ServicePort, TcpOutbound, Workload};

pub(super) fn add(mesh: &MeshSnapshot, workload: &Workload, telemetry: &Telemetry, plan: &mut ProxyPlan) {
    let Some(outbound) = &workload.outbound else { return };
    plan.listeners.push(Listener::OutboundHttp(OutboundHttp {
        address: outbound.http,
        routes: names::OUTBOUND_ROUTES.to_owned(),
        telemetry: telemetry.clone(),
    }));
    let taken: BTreeSet<_> = plan.listeners.iter().map(Listener::name).collect();
    for bind in &outbound.tcp {
        let clusters = tcp_clusters(mesh, bind, &workload.key.namespace);
        let listener =
            Listener::OutboundTcp(OutboundTcp { address: bind.bind, clusters, telemetry: telemetry.clone() });
        let empty = matches!(&listener, Listener::OutboundTcp(tcp) if tcp.clusters.is_empty());
        if !empty && !taken.contains(&listener.name()) {
            plan.listeners.push(listener);
        }
    }
}

/// Where connections to a TCP service go; nowhere if it does not exist.
fn tcp_clusters(mesh: &MeshSnapshot, bind: &TcpOutbound, namespace: &str) -> Vec<Weighted> {
    let service = mesh.services.get(&bind.service).filter(|service| service.ports.contains_key(&bind.port));
    service.map_or_else(Vec::new, |service| shares(mesh, service, bind.port, namespace))
}

/// Where connections to a Service's port go.
pub(super) fn shares(mesh: &MeshSnapshot, service: &Service, number: u16, namespace: &str) -> Vec<Weighted> {
    let port = (service.key.clone(), number);
    // What tells requests apart says nothing of connections.
    let rule = mesh.routing(&port, namespace).and_then(|routing| routing.rules.iter().find(|rule| rule.accepts_all()));
    let share = |backend: &Backend| {
        let service = mesh.services.get(&backend.service)?;
        Some(Weighted { cluster: tcp_cluster(service, backend.port), weight: backend.weight })
    };
    let shares: Vec<Weighted> = rule.into_iter().flat_map(|rule| &rule.backends).filter_map(share).collect();
    if shares.is_empty() { vec![Weighted { cluster: tcp_cluster(service, number), weight: 1 }] } else { shares }
}

/// The cluster for connections to a port.
fn tcp_cluster(service: &Service, port: u16) -> String {
    match service.ports.get(&port) {
        Some(found) if found.protocol == Protocol::Detected => names::outbound_tcp(service, port),
        _ => names::outbound(service, port),
    }
}

/// A virtual host for each port of each Service, and one for all other hosts.
pub(super) fn table(mesh: &MeshSnapshot, namespace: &str) -> RouteTable {
    let mut hosts: Vec<VirtualHost> = Vec::new();
    for (key, service) in &mesh.services {
        hosts.extend(service.ports.values().map(|port| host(mesh, key, service, port, namespace)));
    }
    hosts.push(others(mesh.settings.outbound_policy));
    RouteTable { name: names::OUTBOUND_ROUTES.to_owned(), hosts, inbound: false }
}

/// A Service's port, by the names that callers of a namespace have for it.
pub(super) fn host(
    mesh: &MeshSnapshot,
    key: &Key,
    service: &Service,
    port: &ServicePort,
    namespace: &str,
) -> VirtualHost {
    let bare = service.default_port().is_some_and(|default| default.port == port.port);
    let mut domains = Vec::new();
    for name in service.names(namespace) {
        domains.push(format!("{name}:{}", port.port));
        domains.extend(bare.then_some(name));
    }
    VirtualHost {
        name: format!("{}:{}", service.fqdn, port.port),
        domains,
        routes: routes::of(mesh, &(key.clone(), port.port), service, namespace),
        access: HttpAccess::Open,
        rate_limit: None,
    }
}

/// What becomes of a request whose host no Service names.
pub(super) fn others(policy: OutboundPolicy) -> VirtualHost {
    let (name, action) = match policy {
        OutboundPolicy::AllowAny => {
            let clusters = vec![(Weighted { cluster: names::PASSTHROUGH.to_owned(), weight: 1 }, Actions::default())];
            ("allow_any", Action::Forward(Box::new(Forward { clusters, ..Forward::default() })))
        }
        OutboundPolicy::RegistryOnly => ("block_all", Action::Answer(502, "")),
    };
    let route = Route { name: name.to_owned(), conditions: Vec::new(), action, actions: Actions::default() };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        access: HttpAccess::Open,
        rate_limit: None,
    }
}
