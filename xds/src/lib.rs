//! What both ends of the wire share: type URLs, resources, node ids, SPIFFE identities, the
//! messages that Envoy's own tree lacks, and protobuf as JSON and YAML.
//!
//! Decides nothing about a mesh or a proxy: no I/O, no clock, no configuration of its own.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod ca;
pub mod document;
pub mod identity;
pub mod istio;
pub mod json;
pub mod node;
mod path;
pub mod resource;
pub mod schema;
pub mod type_url;
pub mod typed_struct;
pub mod validate;

pub use identity::SpiffeId;
pub use resource::{Resource, ResourceSet};
pub use schema::Schema;
