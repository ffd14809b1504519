//! The ALPN names that a connection offers instead of its TLS context's own, by the protocol that it will speak. Who
//! wants them, and for which requests, is decided by the filter that puts an [`Override`] into the exchange.

use std::sync::Arc;

use super::pool::Speaks;

/// Names in the order of their worth; never empty.
pub type Names = Arc<[Vec<u8>]>;

/// Source: Envoy's filter state `envoy.network.application_protocols`, as Istio's `istio.alpn` sets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    pub http1: Option<Names>,
    pub http2: Option<Names>,
}

impl Override {
    /// The names for a connection of this kind; `None`: the context's own. Where ALPN decides, HTTP/2 is hoped for.
    /// Source: Envoy's `ClusterInfoImpl::upstreamHttpProtocol`, whose first protocol Istio's filter looks at.
    pub fn names(&self, speaks: Speaks) -> Option<&Names> {
        match speaks {
            Speaks::Http1 => self.http1.as_ref(),
            Speaks::Http2 | Speaks::Negotiated => self.http2.as_ref(),
        }
    }
}

/// Does a cluster want to keep its own names? Source: Istio's `AlpnFilter::decodeHeaders`; istiod writes it where a
/// DestinationRule has TLS of its own.
pub fn kept_by(metadata: &crate::stream::Metadata) -> bool {
    let told = metadata.get("istio").and_then(|istio| istio.get("alpn_override"));
    told.and_then(|value| value.as_str()) == Some("false")
}
