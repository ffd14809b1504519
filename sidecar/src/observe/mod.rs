//! What the proxy tells about itself: counters, access logs, spans.

pub mod access_log;
pub mod prometheus;
pub mod server;
pub mod stats;
pub mod trace;
pub mod workload;
