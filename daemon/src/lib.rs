//! What each process does as a process: logging and shutting down.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod logging;
pub mod parent;
pub mod shutdown;

pub use logging::Logging;
pub use parent::{DIE_WITH_PARENT, die_with_parent};
pub use shutdown::Shutdown;
