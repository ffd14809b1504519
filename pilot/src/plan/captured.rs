//! How a captured workload reaches out: a listener for each address of each Service, and one for everything else, the pods of
//! the mesh among it. The address that was called decides, whatever host a request names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use api::Key;
use api::mesh_config::{MtlsMode, OutboundPolicy};
use api::routing::Actions;
use api::scalar::PortRef;
use api::workload::Capture;

use super::{Flavour, access, clusters, headless, names, outbound, routes, telemetry};
use crate::ir::{
    Action, BLACK_HOLE, Cluster, Discovery, Families, Forward, HttpAccess, Listener, Peers, Protocol as Wire,
    ProxyPlan, Route, RouteTable, Secured, ServiceAddress, TCP_ALPN, Telemetry, Tls, VirtualHost, VirtualOutbound,
    Weighted,
};
use crate::mesh::{MeshSnapshot, Protocol, Service, ServicePort, Workload};

/// Ports at which servers are known to speak first. Source: Istio, "Server First Protocols", and RFC 959, 4253, 1939, 3501.
const SERVER_FIRST: [u16; 8] = [21, 22, 25, 110, 143, 587, 3306, 27017];

/// What all captured workloads of a namespace do with their own calls.
pub(super) fn plan(mesh: &MeshSnapshot, namespace: &str, flavour: Flavour, families: Families) -> ProxyPlan {
    let telemetry = telemetry::of(mesh, flavour);
    let mut plan = ProxyPlan::default();
    for service in mesh.services.values() {
        for port in service.ports.values() {
            service_port(mesh, service, port, namespace, &telemetry, &mut plan);
        }
    }
    let passthrough = clusters::simple(names::PASSTHROUGH, Discovery::OriginalDst, Wire::AsCalled);
    plan.clusters.extend([passthrough, clusters::simple(BLACK_HOLE, Discovery::Nowhere, Wire::Tcp)]);
    let mut headless = headless::hosts(mesh, namespace);
    let mut hosts = headless.remove(&None).unwrap_or_default();
    hosts.push(outbound::others(mesh.settings.outbound_policy));
    plan.routes.push(RouteTable { name: names::OTHERS.to_owned(), hosts, inbound: false });
    elsewhere(mesh, headless, families, &telemetry, &mut plan);
    uncaptured(mesh, &telemetry, &mut plan);
    plan
}

fn service_port(
    mesh: &MeshSnapshot,
    service: &Service,
    port: &ServicePort,
    namespace: &str,
    telemetry: &Telemetry,
    plan: &mut ProxyPlan,
) {
    let name = names::api(service, port.port);
    let http = port.protocol != Protocol::Tcp;
    if http {
        plan.routes.push(table(mesh, service, port, namespace));
    }
    let opaque = matches!(port.protocol, Protocol::Tcp | Protocol::Detected);
    let clusters = if opaque { outbound::shares(mesh, service, port.port, namespace) } else { Vec::new() };
    for address in &service.addresses {
        plan.listeners.push(Listener::Service(ServiceAddress {
            address: SocketAddr::new(*address, port.port),
            routes: http.then(|| name.clone()),
            clusters: clusters.clone(),
            telemetry: telemetry.clone(),
        }));
    }
}

/// The routes of a Service's port, by whatever name it is called.
pub(super) fn table(mesh: &MeshSnapshot, service: &Service, port: &ServicePort, namespace: &str) -> RouteTable {
    let name = names::api(service, port.port);
    let mut domains: Vec<String> =
        service.names(namespace).into_iter().flat_map(|name| [format!("{name}:{}", port.port), name]).collect();
    domains.push("*".to_owned());
    let host = VirtualHost {
        name: name.clone(),
        domains,
        routes: routes::of(mesh, &(service.key.clone(), port.port), service, namespace),
        access: HttpAccess::Open,
        rate_limit: None,
    };
    RouteTable { name, hosts: vec![host], inbound: false }
}

/// Everything that is sent to no Service's address.
fn elsewhere<'a>(
    mesh: &'a MeshSnapshot,
    mut headless: headless::Hosts<'a>,
    families: Families,
    telemetry: &Telemetry,
    plan: &mut ProxyPlan,
) {
    let mut accounts: BTreeMap<&Key, BTreeSet<_>> = BTreeMap::new();
    let reachable = |workload: &&std::sync::Arc<Workload>| {
        workload.capture != Capture::Explicit && !workload.inbound.captures_nothing()
    };
    for workload in mesh.workloads.values().filter(reachable) {
        accounts.entry(&workload.account).or_default().extend(workload.addresses());
    }
    let mut peers = Vec::new();
    for (account, addresses) in accounts {
        let name = names::peers(account);
        plan.clusters.extend([peer_cluster(mesh, account, false), peer_cluster(mesh, account, true)]);
        let mut hosts = headless.remove(&Some(account)).unwrap_or_default();
        hosts.push(to_peers(&name));
        plan.routes.push(RouteTable { name: name.clone(), hosts, inbound: false });
        peers.push(Peers {
            name: format!("{}.{}", account.name, account.namespace),
            addresses: addresses.into_iter().collect(),
            routes: name,
            cluster: names::peers_tcp(account),
        });
    }
    plan.listeners.push(Listener::VirtualOutbound(VirtualOutbound {
        families,
        opaque: server_first(mesh).into_iter().collect(),
        peers,
        routes: names::OTHERS.to_owned(),
        cluster: others(mesh).to_owned(),
        telemetry: telemetry.clone(),
    }));
}

/// Where connections go to what is not of the mesh.
fn others(mesh: &MeshSnapshot) -> &'static str {
    match mesh.settings.outbound_policy {
        OutboundPolicy::AllowAny => names::PASSTHROUGH,
        OutboundPolicy::RegistryOnly => BLACK_HOLE,
    }
}

/// Ports of pods at which no sidecar answers: whatever the policy is towards others, they are of the mesh, and called in plaintext.
fn uncaptured(mesh: &MeshSnapshot, telemetry: &Telemetry, plan: &mut ProxyPlan) {
    for workload in mesh.workloads.values().filter(|workload| !workload.inbound.captures_nothing()) {
        let declared = workload.ports.iter().map(|port| port.port);
        let ports: BTreeSet<u16> = declared.chain(workload.inbound.excluded()).collect();
        for port in ports.into_iter().filter(|port| !workload.inbound.captures(*port)) {
            let listener = |address| {
                Listener::Service(ServiceAddress {
                    address: SocketAddr::new(address, port),
                    routes: None,
                    clusters: vec![Weighted { cluster: names::PASSTHROUGH.to_owned(), weight: 1 }],
                    telemetry: telemetry.clone(),
                })
            };
            plan.listeners.extend(workload.addresses().map(listener));
        }
    }
}

/// Ports at which servers may speak first: well-known ones, and those that a Service declares to be no HTTP, both as its
/// own and as its pods'.
fn server_first(mesh: &MeshSnapshot) -> BTreeSet<u16> {
    let ports = mesh.services.values().flat_map(|service| service.ports.values());
    let declared = ports.filter(|port| port.protocol == Protocol::Tcp).flat_map(|port| match port.target {
        PortRef::Number(target) => [port.port, target.get()],
        PortRef::Name(_) => [port.port; 2],
    });
    declared.chain(SERVER_FIRST).collect()
}

fn peer_cluster(mesh: &MeshSnapshot, account: &Key, tcp: bool) -> Cluster {
    let (name, wire) =
        if tcp { (names::peers_tcp(account), Wire::Tcp) } else { (names::peers(account), Wire::AsCalled) };
    let tls = (mesh.settings.mtls != MtlsMode::Disabled).then(|| Tls {
        secured: Secured::All,
        sni: format!("outbound_._._.{}.{}", account.name, account.namespace),
        identities: access::identities(mesh, [account]),
        alpn: if tcp { vec![TCP_ALPN] } else { Vec::new() },
    });
    Cluster { tls, ..clusters::simple(&name, Discovery::OriginalDst, wire) }
}

/// To the very address that was called.
fn to_peers(name: &str) -> VirtualHost {
    let clusters = vec![(Weighted { cluster: name.to_owned(), weight: 1 }, Actions::default())];
    let action = Action::Forward(Box::new(Forward { clusters, ..Forward::default() }));
    let route = Route { name: "default".to_owned(), conditions: Vec::new(), action, actions: Actions::default() };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        access: HttpAccess::Open,
        rate_limit: None,
    }
}
