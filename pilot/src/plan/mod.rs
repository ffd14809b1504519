//! The mesh and one class of proxies → what such a proxy must do. Pure: the arguments are the whole cache key.

mod access;
mod clusters;
mod endpoints;
mod inbound;
mod names;
mod outbound;
mod routes;
mod telemetry;

use api::Key;

use crate::ir::{Assignment, Cluster, ProxyPlan, RouteTable};
use crate::mesh::MeshSnapshot;

/// All that may make two proxies' plans differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProxyClass {
    /// Whose proxy it is.
    pub workload: Key,
    /// What program it is.
    pub flavour: Flavour,
}

/// What program a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flavour {
    /// Our own sidecar, which knows the mesh's standard metrics.
    Outrigger,
    /// Envoy, or any other that takes what Envoy takes.
    Envoy,
    /// A gRPC client or server without a proxy.
    Grpc,
}

/// What the proxies of a class must do; `None` for a workload that does not exist.
#[must_use]
pub fn build(mesh: &MeshSnapshot, class: &ProxyClass) -> Option<ProxyPlan> {
    let mut plan = own(mesh, class)?;
    plan.routes.extend(
        mesh.workloads.get(&class.workload)?.outbound.iter().map(|_| namespace(mesh, &class.workload.namespace)),
    );
    plan.clusters.extend(shared(mesh));
    Some(plan)
}

/// What only the proxies of this class must do. With [`namespace`] and [`shared`] it makes up [`build`].
#[must_use]
pub fn own(mesh: &MeshSnapshot, class: &ProxyClass) -> Option<ProxyPlan> {
    let workload = mesh.workloads.get(&class.workload)?;
    let telemetry = telemetry::of(mesh, class.flavour);
    let mut plan = ProxyPlan::default();
    inbound::add(mesh, workload, &telemetry, &mut plan);
    outbound::add(mesh, workload, &telemetry, &mut plan);
    Some(plan)
}

/// The routes of HTTP calls, which are the same for all callers of a namespace.
#[must_use]
pub fn namespace(mesh: &MeshSnapshot, namespace: &str) -> RouteTable {
    outbound::table(mesh, namespace)
}

/// The clusters that all proxies have.
#[must_use]
pub fn shared(mesh: &MeshSnapshot) -> Vec<Cluster> {
    clusters::all(mesh)
}

/// The endpoints of all clusters that are found by EDS, the same for all proxies. Depends on endpoints alone, so that a change of them
/// needs no new [`build`].
#[must_use]
pub fn endpoints(mesh: &MeshSnapshot) -> Vec<Assignment> {
    endpoints::all(mesh)
}
