//! The clusters that every workload's proxy has: one for each port of each Service, and those that serve all.

use std::collections::BTreeSet;

use api::mesh_config::MtlsMode;
use api::traffic_policy::{CircuitBreaker, ConnectionPool, LbPolicy};
use api::{GoDuration, Key};

use super::{access, names};
use crate::ir::{Cluster, Discovery, Protocol as Wire, Secured, TCP_ALPN, Tls};
use crate::mesh::{MeshSnapshot, Protocol, Service, ServicePort};

/// Source: Istio's `connectTimeout`.
const CONNECT_TIMEOUT: GoDuration = GoDuration::from_secs(10);

pub(super) fn all(mesh: &MeshSnapshot) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    for (key, service) in &mesh.services {
        for port in service.ports.values() {
            let cluster = of_port(mesh, key, service, port);
            if port.protocol == Protocol::Detected {
                clusters.push(for_tcp(service, port, cluster.clone()));
            }
            clusters.push(cluster);
        }
    }
    clusters.push(simple(names::PASSTHROUGH, Discovery::DynamicForward, Wire::AsCalled));
    clusters.extend(zipkin(mesh));
    clusters
}

pub(super) fn of_port(mesh: &MeshSnapshot, key: &Key, service: &Service, port: &ServicePort) -> Cluster {
    let policy = &service.policy;
    let budget = policy.matched.iter().map(|matched| &matched.calls).chain([&policy.calls]);
    let budget = budget.filter_map(|calls| calls.retry.budget).next();
    Cluster {
        name: names::outbound(service, port.port),
        discovery: Discovery::Eds(names::outbound(service, port.port)),
        protocol: match port.protocol {
            Protocol::Tcp => Wire::Tcp,
            Protocol::Http2 | Protocol::Grpc => Wire::Http2,
            Protocol::GrpcWeb => Wire::Http1,
            Protocol::Http | Protocol::Detected => Wire::AsCalled,
        },
        tls: tls(mesh, key, service, port),
        connect_timeout: policy.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        lb_policy: policy.load_balancer.policy,
        circuit_breaker: policy.circuit_breaker,
        retry_budget: budget.map(|budget| (budget.percent, budget.min_concurrent)),
        outlier_detection: policy.outlier_detection,
        connection_pool: policy.connection_pool,
        source: Vec::new(),
    }
}

/// The same endpoints, for connections that are not HTTP: the called side is told so.
fn for_tcp(service: &Service, port: &ServicePort, mut cluster: Cluster) -> Cluster {
    cluster.name = names::outbound_tcp(service, port.port);
    cluster.protocol = Wire::Tcp;
    if let Some(tls) = &mut cluster.tls {
        tls.alpn.push(TCP_ALPN);
    }
    cluster
}

/// mTLS to the identities that the port's endpoints have; none of the mesh there: none needed.
fn tls(mesh: &MeshSnapshot, key: &Key, service: &Service, port: &ServicePort) -> Option<Tls> {
    if mesh.settings.mtls == MtlsMode::Disabled {
        return None;
    }
    let endpoints = mesh.endpoints.get(&(key.clone(), port.port))?;
    let workloads = endpoints.iter().filter_map(|endpoint| mesh.workloads.get(endpoint.workload.as_ref()?));
    let accounts: BTreeSet<&Key> = workloads.map(|workload| &workload.account).collect();
    let identities = access::identities(mesh, accounts);
    (!identities.is_empty()).then(|| Tls {
        secured: Secured::Marked,
        sni: names::sni(service, port.port),
        identities,
        alpn: Vec::new(),
    })
}

fn zipkin(mesh: &MeshSnapshot) -> Option<Cluster> {
    let url = &mesh.settings.tracing.as_ref()?.zipkin;
    let discovery = match url.host.parse() {
        Ok(ip) => Discovery::Static(std::net::SocketAddr::new(ip, url.port)),
        Err(_) => Discovery::Dns { host: url.host.clone(), port: url.port },
    };
    Some(simple(names::ZIPKIN, discovery, Wire::Http1))
}

pub(super) fn simple(name: &str, discovery: Discovery, protocol: Wire) -> Cluster {
    Cluster {
        name: name.to_owned(),
        discovery,
        protocol,
        tls: None,
        connect_timeout: CONNECT_TIMEOUT,
        lb_policy: LbPolicy::RoundRobin,
        circuit_breaker: CircuitBreaker::default(),
        retry_budget: None,
        outlier_detection: None,
        connection_pool: ConnectionPool::default(),
        source: Vec::new(),
    }
}
