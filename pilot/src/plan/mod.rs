//! The mesh and one class of proxies → what such a proxy must do. Pure: the arguments are the whole cache key.

mod access;
mod captured;
mod clusters;
mod endpoints;
mod grpc;
mod headless;
mod inbound;
mod names;
mod outbound;
mod routes;
mod telemetry;

use std::collections::BTreeSet;

use api::Key;
use api::workload::Capture;

use crate::ir::{Assignment, Cluster, Families, ProxyPlan};
use crate::mesh::MeshSnapshot;

/// All that may make two proxies' plans differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProxyClass {
    /// Whose proxy it is.
    pub workload: Key,
    /// What program it is.
    pub flavour: Flavour,
    /// What addresses it has.
    pub families: Families,
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

/// What the proxies of a class must do; `None` for one that has to wait until its workload exists.
#[must_use]
pub fn build(mesh: &MeshSnapshot, class: &ProxyClass) -> Option<ProxyPlan> {
    let kind = Kind::of(mesh, class)?;
    let mut plan = own(mesh, class);
    let more = namespace(mesh, &class.workload.namespace, kind);
    plan.listeners.extend(more.listeners);
    plan.routes.extend(more.routes);
    plan.clusters.extend(more.clusters);
    let known: BTreeSet<String> = plan.clusters.iter().map(|cluster| cluster.name.clone()).collect();
    plan.clusters.extend(shared(mesh, kind).into_iter().filter(|cluster| !known.contains(&cluster.name)));
    Some(plan)
}

/// How a class of proxies is told what to do. All of one kind share what is not their workload's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Its process calls it.
    Explicit,
    /// Its process knows nothing of it.
    Captured(Flavour, Families),
    /// It is the process itself.
    Grpc,
}

impl Kind {
    /// The kind of a class; `None` for one that has to wait until its workload exists. In a cluster a pod's proxy may be
    /// here before the pod is seen; it can do the pod's own calls until then.
    #[must_use]
    pub fn of(mesh: &MeshSnapshot, class: &ProxyClass) -> Option<Self> {
        let workload = mesh.workloads.get(&class.workload);
        match (class.flavour, workload) {
            (Flavour::Grpc, _) => Some(Self::Grpc),
            (_, Some(workload)) if workload.capture == Capture::Explicit => Some(Self::Explicit),
            (flavour, Some(_)) => Some(Self::Captured(flavour, class.families)),
            (flavour, None) => mesh.settings.cluster.then_some(Self::Captured(flavour, class.families)),
        }
    }
}

/// What only the proxies of this class must do. With [`namespace`] and [`shared`] it makes up [`build`].
#[must_use]
pub fn own(mesh: &MeshSnapshot, class: &ProxyClass) -> ProxyPlan {
    let mut plan = ProxyPlan::default();
    let workload = mesh.workloads.get(&class.workload).filter(|_| class.flavour != Flavour::Grpc);
    if let Some(workload) = workload {
        let telemetry = telemetry::of(mesh, class.flavour);
        inbound::add(mesh, workload, class.families, &telemetry, &mut plan);
        outbound::add(mesh, workload, &telemetry, &mut plan);
    }
    plan
}

/// What is the same for all proxies of a kind whose workloads are of one namespace.
#[must_use]
pub fn namespace(mesh: &MeshSnapshot, namespace: &str, kind: Kind) -> ProxyPlan {
    match kind {
        Kind::Explicit => ProxyPlan { routes: vec![outbound::table(mesh, namespace)], ..ProxyPlan::default() },
        Kind::Captured(flavour, families) => captured::plan(mesh, namespace, flavour, families),
        Kind::Grpc => grpc::plan(mesh, namespace),
    }
}

/// The clusters that all proxies of a kind have. Those of the same name in a narrower plan come before them.
#[must_use]
pub fn shared(mesh: &MeshSnapshot, kind: Kind) -> Vec<Cluster> {
    match kind {
        Kind::Grpc => grpc::clusters(mesh),
        Kind::Explicit | Kind::Captured(..) => clusters::all(mesh),
    }
}

/// The endpoints of all clusters that are found by EDS, the same for all proxies. Depends on endpoints alone, so that a change of them
/// needs no new [`build`].
#[must_use]
pub fn endpoints(mesh: &MeshSnapshot) -> Vec<Assignment> {
    endpoints::all(mesh)
}
