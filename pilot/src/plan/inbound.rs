//! The ports that a workload serves, in explicit mode: mTLS and access control here, then the process.

use std::net::SocketAddr;

use api::GoDuration;
use api::mesh_config::MtlsMode;
use api::routing::{Actions, HeaderMatch, RequestMatch, TextMatch};
use api::traffic_policy::{CircuitBreaker, ConnectionPool, LbPolicy, RateLimit};
use api::workload::Capture;

use super::{access, names};
use crate::ir::{
    Action, Cluster, Discovery, Forward, Inbound, InboundProtocol, Listener, Mtls, Protocol as Wire, ProxyPlan, Route,
    RouteTable, Telemetry, VirtualHost, Weighted,
};
use crate::mesh::{MeshSnapshot, Protocol, Service, ServicePort, Workload, WorkloadPort};

/// No limit on what the process itself is sent: limits are the callers'.
const UNLIMITED: CircuitBreaker = CircuitBreaker {
    max_connections: u32::MAX,
    max_pending_requests: u32::MAX,
    max_requests: u32::MAX,
    max_retries: u32::MAX,
};

pub(super) fn add(mesh: &MeshSnapshot, workload: &Workload, telemetry: &Telemetry, plan: &mut ProxyPlan) {
    if workload.capture != Capture::Explicit {
        return;
    }
    for port in &workload.ports {
        let services = serving(mesh, workload, port.port);
        let protocol = services.iter().map(|(_, port)| port.protocol).find(|p| *p != Protocol::Detected);
        let protocol = protocol.unwrap_or(port.protocol);
        let name = names::inbound(port.port);
        plan.clusters.push(cluster(&name, port, protocol));
        if speaks_both(protocol) {
            plan.clusters.push(cluster(&names::inbound_grpc(port.port), port, Protocol::Grpc));
        }
        let tcp = || access::tcp(mesh, workload, port.port);
        if protocol != Protocol::Tcp {
            plan.routes.push(table(mesh, workload, port.port, protocol, &services));
        }
        let spoken = match protocol {
            Protocol::Tcp => InboundProtocol::Tcp { access: tcp() },
            Protocol::Detected => InboundProtocol::Detected { routes: name.clone(), access: tcp() },
            _ => InboundProtocol::Http { routes: name.clone() },
        };
        plan.listeners.push(Listener::Inbound(Inbound {
            address: SocketAddr::new(workload.address, port.port),
            cluster: name,
            protocol: spoken,
            mtls: mtls(mesh),
            telemetry: telemetry.clone(),
        }));
    }
}

/// The Services, with their ports, that have this port of the workload as an endpoint.
fn serving<'a>(mesh: &'a MeshSnapshot, workload: &Workload, port: u16) -> Vec<(&'a Service, &'a ServicePort)> {
    let mut found = Vec::new();
    for ((key, number), endpoints) in &mesh.endpoints {
        if !endpoints.iter().any(|e| e.port == port && e.workload.as_ref() == Some(&workload.key)) {
            continue;
        }
        let service = mesh.services.get(key).map(AsRef::as_ref);
        found.extend(service.and_then(|service: &Service| Some((service, service.ports.get(number)?))));
    }
    found
}

fn mtls(mesh: &MeshSnapshot) -> Mtls {
    let domains = || mesh.settings.trust_domains().map(ToString::to_string).collect();
    match mesh.settings.mtls {
        MtlsMode::Strict => Mtls::Strict(domains()),
        MtlsMode::Permissive => Mtls::Permissive(domains()),
        MtlsMode::Disabled => Mtls::Disabled,
    }
}

fn cluster(name: &str, port: &WorkloadPort, protocol: Protocol) -> Cluster {
    Cluster {
        name: name.to_owned(),
        discovery: Discovery::Static(port.app),
        protocol: match protocol {
            Protocol::Tcp => Wire::Tcp,
            Protocol::Http2 | Protocol::Grpc => Wire::Http2,
            Protocol::GrpcWeb | Protocol::Http | Protocol::Detected => Wire::Http1,
        },
        tls: None,
        connect_timeout: GoDuration::from_secs(10),
        lb_policy: LbPolicy::RoundRobin,
        circuit_breaker: UNLIMITED,
        retry_budget: None,
        outlier_detection: None,
        connection_pool: ConnectionPool::default(),
    }
}

/// A process that says no more than HTTP is called by HTTP/1.1, which every one understands, whatever the caller used;
/// but gRPC cannot be.
const fn speaks_both(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Http | Protocol::Detected)
}

/// Source: the gRPC protocol on HTTP/2, "Content-Type"; gRPC-Web is another.
fn is_grpc() -> RequestMatch {
    let value = TextMatch::Regex("application/grpc(?:[+;].*)?".to_owned());
    let headers = vec![HeaderMatch { name: "content-type".to_owned(), value }];
    RequestMatch { headers, ..RequestMatch::default() }
}

fn forward(name: &str, conditions: Vec<RequestMatch>, cluster: String) -> Route {
    let clusters = vec![(Weighted { cluster, weight: 1 }, Actions::default())];
    let action = Action::Forward(Box::new(Forward { clusters, ..Forward::default() }));
    Route { name: name.to_owned(), conditions, action, actions: Actions::default() }
}

fn table(
    mesh: &MeshSnapshot,
    workload: &Workload,
    port: u16,
    protocol: Protocol,
    services: &[(&Service, &ServicePort)],
) -> RouteTable {
    let access = access::http(mesh, workload, port);
    let mut routes = Vec::new();
    if access.by_path() {
        let action = Action::RefuseEscapedSlash;
        routes.push(Route {
            name: "escaped-slash".to_owned(),
            conditions: Vec::new(),
            action,
            actions: Actions::default(),
        });
    }
    if speaks_both(protocol) {
        routes.push(forward("grpc", vec![is_grpc()], names::inbound_grpc(port)));
    }
    routes.push(forward("default", Vec::new(), names::inbound(port)));
    let host = VirtualHost {
        name: format!("inbound|http|{port}"),
        domains: vec!["*".to_owned()],
        routes,
        access,
        rate_limit: rate_limit(services),
    };
    RouteTable { name: names::inbound(port), hosts: vec![host], inbound: true }
}

/// One bucket for the port; of several Services at one port, the strictest limit holds.
fn rate_limit(services: &[(&Service, &ServicePort)]) -> Option<RateLimit> {
    let limits = services.iter().filter_map(|(service, _)| service.policy.rate_limit);
    limits.min_by_key(|limit| u128::from(limit.requests.get()) * 1_000_000_000_000 / limit.per.get().as_nanos().max(1))
}
