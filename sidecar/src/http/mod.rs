//! HTTP: from bytes to requests, through the filters, and back.

pub mod codec;
