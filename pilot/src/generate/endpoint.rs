//! Endpoints → cluster load assignments.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::{Locality, Metadata};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};

use super::value;
use crate::ir::{self, Assignment, Peer};

/// The metadata by which a cluster's transport socket is chosen.
pub(super) const SOCKET_MATCH: &str = "envoy.transport_socket_match";
/// What it says of endpoints that are called by mTLS. Both are Istio's.
pub(super) const MTLS: (&str, &str) = ("tlsMode", "istio");

pub(super) fn assignment(assignment: &Assignment) -> ClusterLoadAssignment {
    let mut zones: BTreeMap<Option<&str>, Vec<LbEndpoint>> = BTreeMap::new();
    for endpoint in &assignment.endpoints {
        zones.entry(endpoint.zone.as_deref()).or_default().push(lb_endpoint(endpoint));
    }
    // Clients without a proxy take only localities that have a weight; to others it means nothing.
    let zone = |(zone, lb_endpoints): (Option<&str>, Vec<LbEndpoint>)| LocalityLbEndpoints {
        locality: Some(Locality { zone: zone.unwrap_or_default().to_owned(), ..Default::default() }),
        load_balancing_weight: u32::try_from(lb_endpoints.len()).ok().and_then(value::number),
        lb_endpoints,
        ..Default::default()
    };
    ClusterLoadAssignment {
        cluster_name: assignment.cluster.clone(),
        endpoints: zones.into_iter().map(zone).collect(),
        ..Default::default()
    }
}

/// An endpoint without metadata of its own.
pub(super) fn plain(address: Option<envoy_types::pb::envoy::config::core::v3::Address>) -> LbEndpoint {
    LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint { address, ..Default::default() })),
        ..Default::default()
    }
}

fn lb_endpoint(endpoint: &ir::Endpoint) -> LbEndpoint {
    let mut metadata = Metadata::default();
    if endpoint.mtls {
        let mode = value::texts([(MTLS.0, MTLS.1.to_owned())]);
        metadata.filter_metadata.insert(SOCKET_MATCH.to_owned(), mode);
    }
    if let Some(Peer { workload, namespace, app, version }) = &endpoint.peer {
        let who = value::texts([("workload", format!("{workload};{namespace};{app};{version};"))]);
        metadata.filter_metadata.insert("istio".to_owned(), who);
    }
    let metadata = (!metadata.filter_metadata.is_empty()).then_some(metadata);
    LbEndpoint { metadata, ..plain(value::address(endpoint.address)) }
}
