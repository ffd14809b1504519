//! TLS on both sides: certificates and who is trusted, from files or SDS, and the handshakes.
//!
//! `config` compiles the contexts, `accept` and `connect` use them, `verify` decides about peers.

pub mod accept;
pub mod certificate;
mod choose;
pub mod config;
pub mod connect;
pub mod context;
mod failure;
pub mod params;
pub mod secrets;
pub mod stats;
pub mod verify;

#[cfg(test)]
mod tests;

pub use accept::DownstreamTls;
pub use connect::{TlsRequest, UpstreamTls};
pub use failure::TlsFailure;
pub use secrets::{Secret, SecretRef, SecretSlot, SecretStore};
