//! Network filters: what happens to a connection's bytes where no HTTP is spoken, and the guards that stand
//! before either.

pub mod config;
pub mod connect;
mod proxy;
mod rbac;

use std::rc::Rc;

pub use proxy::TcpProxy;
pub use rbac::NetworkRbac;

use crate::stream::Stream;

/// A filter that looks at a connection before its bytes are served.
pub enum NetworkFilter {
    Rbac(NetworkRbac),
}

impl NetworkFilter {
    /// False: the connection must end.
    pub fn admits(&self, stream: &Rc<Stream>) -> bool {
        match self {
            NetworkFilter::Rbac(rbac) => rbac.admits(stream),
        }
    }
}
