//! The endpoints of every Service's port, with what telemetry says of them.

use std::net::SocketAddr;

use api::mesh_config::MtlsMode;

use super::names;
use crate::ir::{Assignment, Endpoint, Peer};
use crate::mesh::{Endpoint as Place, MeshSnapshot, Workload};

pub(super) fn all(mesh: &MeshSnapshot) -> Vec<Assignment> {
    let assignment = |(port, endpoints): (&crate::mesh::PortKey, &std::sync::Arc<Vec<Place>>)| Assignment {
        cluster: names::outbound_at(port, &mesh.settings.cluster_domain),
        endpoints: endpoints.iter().map(|endpoint| one(mesh, endpoint)).collect(),
    };
    mesh.endpoints.iter().map(assignment).collect()
}

fn one(mesh: &MeshSnapshot, endpoint: &Place) -> Endpoint {
    let workload = endpoint.workload.as_ref().and_then(|key| mesh.workloads.get(key));
    Endpoint {
        address: SocketAddr::new(endpoint.address, endpoint.port),
        mtls: workload.is_some() && mesh.settings.mtls != MtlsMode::Disabled,
        peer: workload.map(|workload| peer(workload)),
        zone: endpoint.zone.clone(),
    }
}

/// Source: Istio's canonical service and revision.
fn peer(workload: &Workload) -> Peer {
    let label = |names: [&str; 3]| names.iter().find_map(|name| workload.labels.get(*name)).cloned();
    Peer {
        workload: workload.display_name.clone(),
        namespace: workload.key.namespace.clone(),
        app: label(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
            .unwrap_or_else(|| workload.display_name.clone()),
        version: label(["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"])
            .unwrap_or_else(|| "latest".to_owned()),
    }
}
