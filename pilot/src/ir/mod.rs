//! What one proxy must do, as plain data: the seam between what is decided (`plan`) and how Envoy is told (`generate`).
//!
//! Everything has `Eq` and `Hash`, so that what has not changed is known without being generated.

mod access;
mod cluster;
mod endpoint;
mod listener;
mod route;

pub use access::{HttpAccess, HttpRule, TcpAccess};
pub use cluster::{Cluster, Discovery, Protocol, Secured, Tls};
pub use endpoint::{Assignment, Endpoint, Peer};
pub use listener::{
    AccessLog, Api, Families, Inbound, InboundProtocol, Listener, Mtls, OutboundHttp, OutboundTcp, Peers,
    ServiceAddress, Serving, Telemetry, Tracing, VirtualInbound, VirtualOutbound, Weighted,
};
pub use route::{Action, Forward, Route, RouteTable, VirtualHost};

/// What callers that send bytes offer by ALPN where the called side would have to guess. Istio's word for it.
pub const TCP_ALPN: &str = "istio";
/// The cluster that never has an endpoint, by Istio's name.
pub const BLACK_HOLE: &str = "BlackHoleCluster";

/// Everything that one proxy must do, but for the endpoints of its clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProxyPlan {
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// The route tables that listeners name.
    pub routes: Vec<RouteTable>,
    /// Where it sends.
    pub clusters: Vec<Cluster>,
}
