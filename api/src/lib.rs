//! The objects users write: Kubernetes' core kinds as far as a mesh reads them, SMI, Gateway API and our own group
//! `mesh.outrigger.dev`, with where each was read and what is wrong with it.
//!
//! This crate knows shapes and defaults. What an object means for traffic is decided elsewhere (`smi-adapter`, `pilot::mesh`).
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod access;
pub mod check;
pub mod core;
pub mod duration;
pub mod field;
pub mod gateway;
pub mod manifest;
pub mod mesh_config;
pub mod meta;
pub mod object;
pub mod objects;
pub mod pattern;
pub mod problem;
pub mod routing;
pub mod scalar;
pub mod schema;
pub mod smi;
pub mod traffic_policy;
pub mod workload;
pub mod yaml;

pub use duration::GoDuration;
pub use field::FieldPath;
pub use mesh_config::MeshConfig;
pub use meta::{Key, ObjectMeta, ObjectRef};
pub use object::{Kind, Object};
pub use objects::{Objects, Origin, Stored};
pub use problem::{Problem, Reason, Severity};
pub use traffic_policy::TrafficPolicy;
pub use workload::Workload;
