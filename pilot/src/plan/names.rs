//! Names that others know: of clusters, route tables and virtual hosts. They are Istio's, for dashboards and habits.

use api::Key;

use crate::mesh::{PortKey, Service};

/// Where requests go whose host no Service names.
pub(super) const PASSTHROUGH: &str = "PassthroughCluster";
/// The route table of captured HTTP calls to others than the mesh.
pub(super) const OTHERS: &str = "others";
/// Where spans go.
pub(super) const ZIPKIN: &str = "zipkin";
/// The route table of a workload's own HTTP calls.
pub(super) const OUTBOUND_ROUTES: &str = "outbound-http";

/// The cluster of a Service's port.
pub(super) fn outbound(service: &Service, port: u16) -> String {
    format!("outbound|{port}||{}", service.fqdn)
}

/// The cluster of a Service's port for connections that are not HTTP, where the port's protocol is detected.
pub(super) fn outbound_tcp(service: &Service, port: u16) -> String {
    format!("outbound|{port}|tcp|{}", service.fqdn)
}

/// The cluster of a port by its key.
pub(super) fn outbound_at((service, port): &PortKey, cluster_domain: &str) -> String {
    format!("outbound|{port}||{}.{}.svc.{cluster_domain}", service.name, service.namespace)
}

/// The cluster, and the route table, of a port that the workload itself serves.
pub(super) fn inbound(port: u16) -> String {
    format!("inbound|{port}||")
}

/// The cluster for gRPC calls to a port that says no more than HTTP.
pub(super) fn inbound_grpc(port: u16) -> String {
    format!("inbound|{port}|grpc|")
}

/// The server name that callers of a port send.
pub(super) fn sni(service: &Service, port: u16) -> String {
    format!("outbound_.{port}_._.{}", service.fqdn)
}

/// What clients without a proxy call a port, and its route table.
pub(super) fn api(service: &Service, port: u16) -> String {
    format!("{}:{port}", service.fqdn)
}

/// The cluster, and the route table, for workloads of a service account that are called at their own addresses.
pub(super) fn peers(account: &Key) -> String {
    format!("peers||{}.{}", account.name, account.namespace)
}

/// The same for connections that are not HTTP.
pub(super) fn peers_tcp(account: &Key) -> String {
    format!("peers|tcp|{}.{}", account.name, account.namespace)
}
