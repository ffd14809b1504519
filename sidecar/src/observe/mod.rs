//! What the proxy tells about itself: counters, access logs, spans.

pub mod prometheus;
pub mod stats;
