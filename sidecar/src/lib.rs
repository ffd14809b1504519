//! The sidecar: a proxy that starts from an Envoy bootstrap and speaks xDS v3.
//!
//! Read `app` first: it builds every part and starts the threads. Imports go only leftward along
//! `error net matcher` ← `route rbac cluster observe` ← `tls` ← `upstream` ← `snapshot` ← `tcp` ←
//! `http` ← `listener` ← `worker` ← `assemble` ← `app`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod app;
pub mod assemble;
pub mod body;
pub mod bootstrap;
pub mod cluster;
pub mod config;
pub mod discovery;
pub mod error;
pub mod format;
pub mod http;
pub mod io;
pub mod listener;
pub mod logging;
pub mod matcher;
pub mod memory;
pub mod net;
pub mod observe;
pub mod options;
pub mod rbac;
pub mod request;
pub mod route;
pub mod runtime;
pub mod snapshot;
pub mod stream;
pub mod tcp;
pub mod tls;
pub mod upstream;
pub mod worker;
