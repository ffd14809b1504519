//! Network filters: what happens to a connection's bytes where no HTTP is spoken, and the guards that stand
//! before either.

pub mod config;
pub mod connect;
pub mod metadata_exchange;
mod proxy;
mod rbac;

use std::rc::Rc;
use std::sync::Arc;

pub use metadata_exchange::MetadataExchange;
pub use proxy::TcpProxy;
pub use rbac::NetworkRbac;

use crate::io::Io;
use crate::stream::Stream;

/// A filter that looks at a connection before its bytes are served.
pub enum NetworkFilter {
    Rbac(NetworkRbac),
    MetadataExchange(Arc<MetadataExchange>),
}

impl NetworkFilter {
    /// The connection's bytes as later filters see them; `None`: it must end.
    pub fn begin(&self, io: Box<dyn Io>, stream: &Rc<Stream>) -> Option<Box<dyn Io>> {
        match self {
            NetworkFilter::Rbac(rbac) => rbac.admits(stream).then_some(io),
            NetworkFilter::MetadataExchange(exchange) => {
                let connection = &stream.connection;
                Some(exchange.meet(io, connection.tls.as_deref(), &connection.told))
            }
        }
    }
}
