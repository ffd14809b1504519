//! Network filters: what happens to a connection's bytes where no HTTP is spoken, and the guards that stand
//! before either.

pub mod config;
pub mod connect;
pub mod istio_stats;
pub mod metadata_exchange;
mod proxy;
mod rbac;

use std::rc::Rc;
use std::sync::Arc;

pub use istio_stats::{IstioStats, Report};
pub use metadata_exchange::MetadataExchange;
pub use proxy::TcpProxy;
pub use rbac::NetworkRbac;

use crate::io::Io;
use crate::stream::Stream;

/// A filter that looks at a connection before its bytes are served.
pub enum NetworkFilter {
    Rbac(NetworkRbac),
    MetadataExchange(Arc<MetadataExchange>),
    IstioStats(IstioStats),
}

impl NetworkFilter {
    /// The connection's bytes as later filters see them; `None`: it must end. `reports` gets what is to be told of it.
    pub fn begin(&self, io: Box<dyn Io>, stream: &Rc<Stream>, reports: &mut Vec<Report>) -> Option<Box<dyn Io>> {
        match self {
            NetworkFilter::Rbac(rbac) => rbac.admits(stream).then_some(io),
            NetworkFilter::MetadataExchange(exchange) => {
                let connection = &stream.connection;
                Some(exchange.meet(io, connection.tls.as_deref(), &connection.told))
            }
            NetworkFilter::IstioStats(stats) => {
                let (io, report) = stats.begin(io, stream);
                reports.push(report);
                Some(io)
            }
        }
    }
}
