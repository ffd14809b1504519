//! What each process does as a process: logging and shutting down.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod logging;
pub mod shutdown;

pub use logging::Logging;
pub use shutdown::Shutdown;
