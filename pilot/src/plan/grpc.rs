//! What gRPC clients without a proxy are told: a listener and a route table for each port of each Service, by name.

use api::traffic_policy::LbPolicy;

use super::{captured, clusters, names};
use crate::ir::{Api, Cluster, Discovery, Listener, ProxyPlan, Secured, Tls};
use crate::mesh::{MeshSnapshot, Service};

/// Every TCP port has one: a client that asks for it by name knows what it speaks, whatever the port is called.
pub(super) fn plan(mesh: &MeshSnapshot, namespace: &str) -> ProxyPlan {
    let mut plan = ProxyPlan::default();
    for service in mesh.services.values() {
        for port in service.ports.values() {
            let name = names::api(service, port.port);
            plan.listeners.push(Listener::Api(Api { name: name.clone(), routes: name }));
            plan.routes.push(captured::table(mesh, service, port, namespace));
        }
    }
    plan
}

/// Clusters that such clients take: no choice of socket by endpoint, so mTLS to all endpoints or to none.
/// Source: gRFC A27, A29 and A42.
pub(super) fn clusters(mesh: &MeshSnapshot) -> Vec<Cluster> {
    let mut made = Vec::new();
    for (key, service) in &mesh.services {
        for port in service.ports.values() {
            let cluster = clusters::of_port(mesh, key, service, port);
            let tls = cluster.tls.clone().filter(|_| all_meshed(mesh, service, port.port));
            made.push(Cluster {
                tls: tls.map(|tls| Tls { secured: Secured::AllByProvider, alpn: Vec::new(), ..tls }),
                lb_policy: match cluster.lb_policy {
                    LbPolicy::RingHash | LbPolicy::Maglev => LbPolicy::RingHash,
                    LbPolicy::RoundRobin | LbPolicy::LeastRequest | LbPolicy::Random => LbPolicy::RoundRobin,
                },
                discovery: Discovery::Eds(cluster.name.clone()),
                ..cluster
            });
        }
    }
    made
}

fn all_meshed(mesh: &MeshSnapshot, service: &Service, port: u16) -> bool {
    let endpoints = mesh.endpoints.get(&(service.key.clone(), port));
    endpoints.is_some_and(|endpoints| endpoints.iter().all(|endpoint| endpoint.workload.is_some()))
}
