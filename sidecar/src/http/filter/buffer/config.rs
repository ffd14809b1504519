//! `envoy.extensions.filters.http.buffer.v3.Buffer` → [`Buffer`] and a route's [`Limit`].

use std::any::Any;
use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::http::buffer::v3 as pb;
use pb::buffer_per_route::Override;

use super::{Buffer, Limit};
use crate::config::{ConfigError, u32_or};
use crate::http::filter::Disabled;

/// Compiles the filter.
pub fn filter(name: &str, config: &pb::Buffer) -> Buffer {
    Buffer { name: name.to_owned(), limit: limit(config) }
}

fn limit(config: &pb::Buffer) -> u64 {
    u64::from(u32_or(config.max_request_bytes.as_ref(), 0))
}

/// Compiles a route's word.
///
/// # Errors
/// It says nothing.
pub fn route(config: &pb::BufferPerRoute) -> Result<Arc<dyn Any + Send + Sync>, ConfigError> {
    match &config.r#override {
        Some(Override::Disabled(_)) => Ok(Arc::new(Disabled)),
        Some(Override::Buffer(buffer)) => Ok(Arc::new(Limit(limit(buffer)))),
        None => Err(ConfigError::new("one of disabled, buffer is required")),
    }
}
