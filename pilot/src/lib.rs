//! The control plane: objects → mesh → plan → xDS.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod analyze;
pub mod routing;
pub mod source;
