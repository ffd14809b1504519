//! The sidecar: a proxy that starts from an Envoy bootstrap and speaks xDS v3.
//!
//! Read `app` first: it builds every part and starts the threads. Imports go only leftward along
//! `error net matcher` ← `route rbac cluster observe` ← `tls` ← `upstream` ← `snapshot` ← `tcp` ←
//! `http` ← `listener` ← `worker` ← `assemble` ← `app`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod body;
pub mod config;
pub mod error;
pub mod http;
pub mod io;
pub mod net;
pub mod observe;
pub mod request;
pub mod stream;
pub mod upstream;
