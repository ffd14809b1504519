//! Proxies of one mesh tell each other which workload they stand for ahead of a connection's own bytes, where TLS agreed
//! that they would. Who has nothing to say, or says what can't be read, is not known; its bytes pass all the same.
//! Source: Istio's `metadata_exchange` network filter, for downstream and for upstream.

pub mod config;
mod exchanging;
mod frame;

use std::sync::Arc;

use bytes::Bytes;

use crate::io::Io;
use crate::observe::stats::Counter;
use crate::observe::workload::Told;
use crate::stream::TlsInfo;
use exchanging::Exchanging;

/// A compiled filter; immutable, shared by all workers.
pub struct MetadataExchange {
    /// The ALPN name by which both sides agree; never empty.
    pub protocol: String,
    /// What we say of ourselves, as it goes over the wire.
    pub own: Bytes,
    /// Labels of the peer that are kept beside those that all peers are asked for.
    pub labels: Vec<String>,
    pub stats: ExchangeStats,
}

/// Handles to `metadata_exchange.*`.
pub struct ExchangeStats {
    pub alpn_protocol_found: Counter,
    pub alpn_protocol_not_found: Counter,
    pub initial_header_not_found: Counter,
    pub header_not_found: Counter,
    pub metadata_added: Counter,
}

impl MetadataExchange {
    /// Takes part in the exchange on a connection that agreed on it; `told` is settled when it is over.
    pub fn meet(self: &Arc<Self>, io: Box<dyn Io>, tls: Option<&TlsInfo>, told: &Told) -> Box<dyn Io> {
        if tls.is_none_or(|tls| tls.alpn != self.protocol) {
            self.stats.alpn_protocol_not_found.inc();
            told.settle(None);
            return io;
        }
        self.stats.alpn_protocol_found.inc();
        Box::new(Exchanging::new(io, self.clone(), told.clone()))
    }
}

#[cfg(test)]
mod tests;
