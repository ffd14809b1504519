//! Adapters around a connection's bytes: counting them, and gathering small writes into large ones.

mod counted;
mod gather;
mod prefixed;

pub use counted::{Counted, Traffic};
pub use gather::gather;
pub use prefixed::Prefixed;

use tokio::io::{AsyncRead, AsyncWrite};

/// A connection's bytes, whatever carries them.
/// `Send` because hyper hands upgraded connections over as such.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}
