//! The Service Mesh Interface: every published version is read into one storage form, the newest.
//!
//! Source: SMI specification 0.6.0: traffic-split v1alpha1 to v1alpha4, traffic-specs v1alpha1 to v1alpha4,
//! traffic-access v1alpha1 to v1alpha3. Fields that old manifests write at the top (`matches`, `destination`, `sources`,
//! `specs`) are read in every version.

pub mod access;
pub mod quantity;
pub mod specs;
pub mod split;

pub use access::TrafficTarget;
pub use specs::{HttpRouteGroup, TcpRoute, UdpRoute};
pub use split::TrafficSplit;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of routes that splits and targets refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum RouteKind {
    /// Requests by path, method and headers.
    #[serde(rename = "HTTPRouteGroup")]
    HttpRouteGroup,
    /// Connections by port.
    #[serde(rename = "TCPRoute")]
    TcpRoute,
    /// Datagrams by port; not enforced here.
    #[serde(rename = "UDPRoute")]
    UdpRoute,
}

impl RouteKind {
    /// The kind as written in manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HttpRouteGroup => "HTTPRouteGroup",
            Self::TcpRoute => "TCPRoute",
            Self::UdpRoute => "UDPRoute",
        }
    }
}
