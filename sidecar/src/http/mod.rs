//! HTTP: from bytes to requests, through the filters, and back.

pub mod codec;
pub mod forwarded;
pub mod path;
pub mod request_id;
