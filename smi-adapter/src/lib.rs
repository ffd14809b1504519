//! The Service Mesh Interface: what its objects mean ([`translate`]), in the mesh's own words.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod translate;
