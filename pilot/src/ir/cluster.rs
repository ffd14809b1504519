//! Where a proxy sends.

use std::net::{IpAddr, SocketAddr};

use api::GoDuration;
use api::scalar::Percent;
use api::traffic_policy::{CircuitBreaker, ConnectionPool, LbPolicy, OutlierDetection};

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster {
    /// As in Istio: `outbound|PORT||FQDN`, `inbound|PORT||`, …
    pub name: String,
    /// How its endpoints are found.
    pub discovery: Discovery,
    /// How they are spoken to.
    pub protocol: Protocol,
    /// How those of the mesh are secured; absent: all in plaintext.
    pub tls: Option<Tls>,
    /// To connect.
    pub connect_timeout: GoDuration,
    /// How one is chosen.
    pub lb_policy: LbPolicy,
    /// How much may be under way.
    pub circuit_breaker: CircuitBreaker,
    /// How much of all requests may be retries, and how many always, in place of `maxRetries`.
    pub retry_budget: Option<(Percent, u32)>,
    /// When one is left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// How connections are kept.
    pub connection_pool: ConnectionPool,
    /// What connections are made from, an address a family; none: as the system chooses.
    pub source: Vec<IpAddr>,
}

/// How a cluster's endpoints are found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Discovery {
    /// By EDS, under this name.
    Eds(String),
    /// It is this one.
    Static(SocketAddr),
    /// There are none.
    Nowhere,
    /// It is the address that a captured connection was meant for.
    OriginalDst,
    /// By DNS.
    Dns {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
    /// It is the host that each request names.
    DynamicForward,
}

/// How endpoints are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Bytes are passed on; HTTP, if it comes to that, as HTTP/1.1.
    Tcp,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
    /// HTTP/1.1 or HTTP/2, as the caller does.
    AsCalled,
}

/// Which endpoints are called by mTLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Secured {
    /// Those that are marked as of the mesh; others in plaintext.
    Marked,
    /// All.
    All,
    /// All, with the certificate that the client was itself given.
    AllByProvider,
}

/// mTLS to endpoints of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// To which.
    pub secured: Secured,
    /// The server name that is sent.
    pub sni: String,
    /// SPIFFE ids that endpoints may have. Never empty: an empty list would mean anybody.
    pub identities: Vec<String>,
    /// What is offered by ALPN; nothing where the called side needs no telling.
    pub alpn: Vec<&'static str>,
}
