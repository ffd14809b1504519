//! Who this proxy is, as spans and mesh metrics name it: set once at start, read by everyone.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::OnceLock;

/// Facts of the bootstrap's `node`.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub id: String,
    /// A span's `localEndpoint.serviceName`.
    pub cluster: String,
    pub zone: String,
    /// `node.metadata` as a JSON object.
    pub metadata: serde_json::Value,
    /// The address by which this host reaches others.
    pub address: Option<IpAddr>,
}

static NODE: OnceLock<Node> = OnceLock::new();

/// Sets the facts; later calls change nothing.
pub fn set(mut node: Node) {
    node.address = own_address();
    let _ = NODE.set(node);
}

/// The facts; empty ones before [`set`].
pub fn get() -> &'static Node {
    static NOBODY: Node = Node {
        id: String::new(),
        cluster: String::new(),
        zone: String::new(),
        metadata: serde_json::Value::Null,
        address: None,
    };
    NODE.get().unwrap_or(&NOBODY)
}

/// Connecting a UDP socket only chooses a route: nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // A documentation address (RFC 5737).
    socket.connect(SocketAddr::from(([192, 0, 2, 1], 9))).ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_unspecified())
}
