//! What each process does as a process: logging, following files, shutting down, and (feature `https`) serving with a certificate in files.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod files;
#[cfg(feature = "https")]
pub mod https;
pub mod logging;
pub mod parent;
pub mod program;
pub mod shutdown;

pub use logging::Logging;
pub use parent::{DIE_WITH_PARENT, die_with_parent};
pub use shutdown::Shutdown;
