//! Aggregated discovery: each proxy's stream, in both protocols.
//!
//! `sotw` and `delta` are state machines without I/O; `stream` feeds them; `secrets` answers for certificates.

mod delta;
mod registry;
mod secrets;
mod service;
mod sotw;
mod stream;

pub use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
pub use registry::{Registry, StreamStatus, TypeStatus};
pub use secrets::Secrets;
pub use service::AdsService;

/// The order in which types are sent, so that what is named is there before what names it.
const ORDER: [&str; 5] = [
    xds::type_url::CLUSTER,
    xds::type_url::CLUSTER_LOAD_ASSIGNMENT,
    xds::type_url::LISTENER,
    xds::type_url::ROUTE_CONFIGURATION,
    xds::type_url::SECRET,
];

/// Types of which a request without names means all.
fn wildcard(type_url: &str) -> bool {
    matches!(type_url, xds::type_url::CLUSTER | xds::type_url::LISTENER)
}

/// What must be sent again after a type, for a proxy that warms what it was sent anew waits for it.
fn follows(type_url: &str) -> Option<&'static str> {
    match type_url {
        xds::type_url::CLUSTER => Some(xds::type_url::CLUSTER_LOAD_ASSIGNMENT),
        xds::type_url::LISTENER => Some(xds::type_url::ROUTE_CONFIGURATION),
        _ => None,
    }
}
