//! The endpoints of a cluster.

use std::net::SocketAddr;

/// All endpoints of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Assignment {
    /// The cluster's name.
    pub cluster: String,
    /// In order of address.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where it is called.
    pub address: SocketAddr,
    /// Whether by mTLS.
    pub mtls: bool,
    /// Whose it is, for telemetry.
    pub peer: Option<Peer>,
    /// Its zone.
    pub zone: Option<String>,
}

/// A workload as telemetry names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The workload's name.
    pub workload: String,
    /// Its namespace.
    pub namespace: String,
    /// The label `app`, or the workload's name.
    pub app: String,
    /// The label `version`, or `latest`.
    pub version: String,
}
