//! The Service Mesh Interface: what its objects mean ([`translate`]), in the mesh's own words, and how one version of an object
//! becomes another ([`convert`]), and what its metrics API answers ([`metrics`]).
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod convert;
pub mod metrics;
pub mod translate;
pub mod webhook;
