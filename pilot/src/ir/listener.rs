//! Where a proxy listens, and what it does with what comes.

use std::net::{IpAddr, SocketAddr};

use api::mesh_config::AccessLogFormat;
use api::scalar::Percent;

use super::TcpAccess;

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listener {
    /// For callers of the workload.
    Inbound(Inbound),
    /// For the workload's own HTTP calls.
    OutboundHttp(OutboundHttp),
    /// For the workload's own connections to one service.
    OutboundTcp(OutboundTcp),
    /// For all that comes to a captured workload.
    VirtualInbound(VirtualInbound),
    /// For what a captured workload sends to no Service's address.
    VirtualOutbound(VirtualOutbound),
    /// For what a captured workload sends to a Service's address.
    Service(ServiceAddress),
    /// For clients that have no proxy: a Service's port by name.
    Api(Api),
}

impl Listener {
    /// `ADDRESS_PORT`, `virtualInbound` or `virtualOutbound`, as in Istio; for clients without a proxy what they ask for.
    #[must_use]
    pub fn name(&self) -> String {
        let address = match self {
            Self::Inbound(inbound) => inbound.address,
            Self::OutboundHttp(outbound) => outbound.address,
            Self::OutboundTcp(outbound) => outbound.address,
            Self::VirtualInbound(_) => return "virtualInbound".to_owned(),
            Self::VirtualOutbound(_) => return "virtualOutbound".to_owned(),
            Self::Service(service) => service.address,
            Self::Api(api) => return api.name.clone(),
        };
        format!("{}_{}", address.ip(), address.port())
    }
}

/// A port that the workload serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inbound {
    /// Where callers connect.
    pub address: SocketAddr,
    /// What becomes of them.
    pub serving: Serving,
}

/// Where all connections to a captured workload arrive, whatever their port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VirtualInbound {
    /// Where it listens.
    pub families: Families,
    /// By the port that callers meant.
    pub ports: Vec<(u16, Serving)>,
    /// At every other port.
    pub others: Serving,
}

/// How a port of the workload is served.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Serving {
    /// The cluster that is the process itself.
    pub cluster: String,
    /// What is spoken.
    pub protocol: InboundProtocol,
    /// Who may connect.
    pub mtls: Mtls,
    /// What is told of it.
    pub telemetry: Telemetry,
}

/// What is spoken at an inbound port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InboundProtocol {
    /// HTTP; who may do what is in the route table.
    Http {
        /// The route table.
        routes: String,
    },
    /// Bytes.
    Tcp {
        /// Who may.
        access: TcpAccess,
    },
    /// HTTP or bytes, found out on each connection.
    Detected {
        /// The route table, for HTTP.
        routes: String,
        /// Who may, for bytes.
        access: TcpAccess,
    },
}

/// Which connections are taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mtls {
    /// mTLS with a certificate of one of these trust domains.
    Strict(Vec<String>),
    /// The same, or plaintext.
    Permissive(Vec<String>),
    /// Plaintext.
    Disabled,
}

/// The address for the workload's own HTTP calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutboundHttp {
    /// Where it connects.
    pub address: SocketAddr,
    /// The route table.
    pub routes: String,
    /// What is told of it.
    pub telemetry: Telemetry,
}

/// An address for the workload's own connections to one service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutboundTcp {
    /// Where it connects.
    pub address: SocketAddr,
    /// Where connections go.
    pub clusters: Vec<Weighted>,
    /// What is told of it.
    pub telemetry: Telemetry,
}

/// The families of addresses that a workload has. IPv4's loopback is always there; IPv6 may not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Families {
    /// IPv4 alone.
    #[default]
    V4,
    /// IPv6 too, or alone.
    Both,
}

impl Families {
    /// Those of some addresses.
    pub fn of(mut addresses: impl Iterator<Item = IpAddr>) -> Self {
        if addresses.any(|address| address.is_ipv6()) { Self::Both } else { Self::V4 }
    }
}

/// Where captured connections arrive. Those for no Service's address stay: for workloads of the mesh, and for all the world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VirtualOutbound {
    /// Where it listens.
    pub families: Families,
    /// Ports at which bytes are passed on without a look: servers may speak first.
    pub opaque: Vec<u16>,
    /// Workloads of the mesh.
    pub peers: Vec<Peers>,
    /// The route table for HTTP to others.
    pub routes: String,
    /// Where connections to others go.
    pub cluster: String,
    /// What is told of it.
    pub telemetry: Telemetry,
}

/// Workloads of one identity, each called at its own address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peers {
    /// Whose they are.
    pub name: String,
    /// Where they are, in order.
    pub addresses: Vec<IpAddr>,
    /// The route table for HTTP.
    pub routes: String,
    /// The cluster for all else.
    pub cluster: String,
}

/// A Service's own address, and what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAddress {
    /// The address.
    pub address: SocketAddr,
    /// The route table, where HTTP is spoken.
    pub routes: Option<String>,
    /// Where connections go that are not HTTP; none where nothing else is spoken.
    pub clusters: Vec<Weighted>,
    /// What is told of it.
    pub telemetry: Telemetry,
}

/// A Service's port as clients without a proxy ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Api {
    /// `HOST:PORT`.
    pub name: String,
    /// The route table.
    pub routes: String,
}

/// A cluster and its share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Weighted {
    /// The cluster.
    pub cluster: String,
    /// At least 1.
    pub weight: u32,
}

/// What is told of requests and connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Telemetry {
    /// Where spans go.
    pub tracing: Option<Tracing>,
    /// Where lines go; absent: there are none.
    pub access_log: Option<AccessLog>,
    /// Whether the proxy knows the mesh's standard metrics.
    pub mesh_metrics: bool,
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tracing {
    /// The collector's cluster.
    pub cluster: String,
    /// Its host, as it is named to it.
    pub host: String,
    /// The path that spans are posted to.
    pub path: String,
    /// The share of traces begun here that are kept.
    pub sampling: Percent,
}

/// An access log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessLog {
    /// Text or JSON.
    pub format: AccessLogFormat,
    /// A file or device.
    pub path: String,
}
