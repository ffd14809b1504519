//! The control plane: objects → mesh → plan → xDS.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod ads;
pub mod analyze;
pub mod app;
pub mod ca;
pub mod debug;
pub mod explain;
pub mod generate;
pub mod ir;
pub mod kubernetes;
pub mod mesh;
pub mod metrics_api;
pub mod plan;
pub mod push;
pub mod source;
pub mod tls;
pub mod traffic;
pub mod workloads;
