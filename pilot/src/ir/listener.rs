//! Where a proxy listens, and what it does with what comes.

use std::net::SocketAddr;

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
}

impl Listener {
    /// `ADDRESS_PORT`, as in Istio.
    #[must_use]
    pub fn name(&self) -> String {
        let address = match self {
            Self::Inbound(inbound) => inbound.address,
            Self::OutboundHttp(outbound) => outbound.address,
            Self::OutboundTcp(outbound) => outbound.address,
        };
        format!("{}_{}", address.ip(), address.port())
    }
}

/// A port that the workload serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inbound {
    /// Where callers connect.
    pub address: SocketAddr,
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
