//! The control plane: objects → mesh → plan → xDS.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod analyze;
pub mod generate;
pub mod ir;
pub mod mesh;
pub mod plan;
pub mod source;
