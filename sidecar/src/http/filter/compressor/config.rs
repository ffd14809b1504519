//! `envoy.extensions.filters.http.compressor.v3.Compressor` → [`Compressor`] and a route's settings.

use std::any::Any;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{RuntimeFeatureFlag, TypedExtensionConfig};
use envoy_types::pb::envoy::extensions::compression::gzip::compressor::v3::Gzip;
use envoy_types::pb::envoy::extensions::filters::http::compressor::v3 as pb;
use pb::compressor::{CommonDirectionConfig, ResponseDirectionConfig};
use pb::compressor_per_route::Override;
use prost::{Message, Name};

use super::{Compressor, Direction, HeaderStats, HidesAccept, Stats};
use crate::config::{ConfigError, Within, bool_or, each, is, type_name, u32_or, unpack};
use crate::http::filter::Disabled;
use crate::http::gzip::Passed;
use crate::matcher::StringMatcher;
use crate::matcher::config as matchers;
use crate::observe::stats::Scope;

/// Source: `CommonDirectionConfig.min_content_length`.
const LEAST: u32 = 30;

/// Source: `CommonDirectionConfig.content_type`.
const TYPES: [&str; 8] = [
    "application/javascript",
    "application/json",
    "application/xhtml+xml",
    "image/svg+xml",
    "text/css",
    "text/html",
    "text/plain",
    "text/xml",
];

/// Compiles the filter. `scope` is the connection manager's.
///
/// # Errors
/// A library other than gzip, or a field that is not supported.
pub fn filter(name: &str, config: &pb::Compressor, scope: &Scope) -> Result<Compressor, ConfigError> {
    let library = config.compressor_library.as_ref();
    let library = library.ok_or_else(|| ConfigError::at("compressor_library", "value is required"))?;
    let gzip: Gzip = gzip(library).within("compressor_library")?;
    let scope = scope.child("compressor").child(&library.name).child("gzip");
    let response = config.response_direction_config.clone().unwrap_or_else(|| older(config));
    if response.status_header_enabled {
        return Err(ConfigError::at("response_direction_config.status_header_enabled", "is not supported yet"));
    }
    let request = config.request_direction_config.as_ref().map(|request| direction(request.common_config.as_ref()));
    let codes = response.uncompressible_response_codes.iter().filter_map(|code| u16::try_from(*code).ok());
    Ok(Compressor {
        name: name.to_owned(),
        level: match gzip.compression_level {
            level @ 1..=9 => level.unsigned_abs(),
            _ => 6,
        },
        request: request.transpose().within("request_direction_config.common_config")?,
        response: direction(response.common_config.as_ref()).within("response_direction_config.common_config")?,
        leaves_etag: response.disable_on_etag_header,
        weakens_etag: response.weaken_etag_on_compress,
        hides_accept: response.remove_accept_encoding_header,
        codes: codes.collect(),
        request_stats: stats(&scope.child("request")),
        response_stats: stats(&scope.child("response")),
        header_stats: HeaderStats {
            none: scope.counter("no_accept_header"),
            identity: scope.counter("header_identity"),
            used: scope.counter("header_compressor_used"),
            wildcard: scope.counter("header_wildcard"),
            not_valid: scope.counter("header_not_valid"),
        },
    })
}

/// A library's settings, which must be those of gzip.
///
/// # Errors
/// Another library.
pub fn gzip<G: Message + Name + Default>(library: &TypedExtensionConfig) -> Result<G, ConfigError> {
    match library.typed_config.as_ref() {
        Some(any) if is::<G>(any) => unpack(any),
        other => {
            let kind = other.map_or("", type_name);
            Err(ConfigError::at("typed_config", format!("'{kind}' is not supported: gzip is")))
        }
    }
}

#[allow(deprecated)] // The fields that response_direction_config replaced are still written.
fn older(config: &pb::Compressor) -> ResponseDirectionConfig {
    ResponseDirectionConfig {
        common_config: Some(CommonDirectionConfig {
            enabled: config.runtime_enabled.clone(),
            min_content_length: config.content_length,
            content_type: config.content_type.clone(),
            ..Default::default()
        }),
        disable_on_etag_header: config.disable_on_etag_header,
        remove_accept_encoding_header: config.remove_accept_encoding_header,
        ..Default::default()
    }
}

fn direction(config: Option<&CommonDirectionConfig>) -> Result<Direction, ConfigError> {
    let config = config.cloned().unwrap_or_default();
    let named = |name: &str| StringMatcher::Exact(name.to_ascii_lowercase());
    #[allow(deprecated)] // As above.
    let mut types: Vec<StringMatcher> = config.content_type.iter().map(|name| named(name)).collect();
    types.extend(each("content_type_matcher", &config.content_type_matcher, matchers::string)?);
    if types.is_empty() {
        types.extend(TYPES.map(named));
    }
    Ok(Direction {
        enabled: flag(config.enabled.as_ref()),
        least: u32_or(config.min_content_length.as_ref(), LEAST).into(),
        types,
    })
}

/// Absent: on.
pub fn flag(config: Option<&RuntimeFeatureFlag>) -> bool {
    config.is_none_or(|flag| {
        crate::runtime::flag(&flag.runtime_key).unwrap_or_else(|| bool_or(flag.default_value.as_ref(), true))
    })
}

fn stats(scope: &Scope) -> Stats {
    Stats {
        compressed: scope.counter("compressed"),
        not_compressed: scope.counter("not_compressed"),
        too_small: scope.counter("content_length_too_small"),
        etag: scope.counter("not_compressed_etag"),
        passed: Passed {
            before: scope.counter("total_uncompressed_bytes"),
            after: scope.counter("total_compressed_bytes"),
        },
    }
}

/// Compiles a route's settings.
///
/// # Errors
/// It says nothing, or names a library of its own.
pub fn route(config: &pb::CompressorPerRoute) -> Result<Arc<dyn Any + Send + Sync>, ConfigError> {
    let overrides = match &config.r#override {
        Some(Override::Disabled(true)) => return Ok(Arc::new(Disabled)),
        Some(Override::Overrides(overrides)) => overrides,
        _ => return Err(ConfigError::new("one of disabled, overrides is required")),
    };
    if overrides.compressor_library.is_some() {
        return Err(ConfigError::at("overrides.compressor_library", "is not supported yet"));
    }
    let hides = overrides.response_direction_config.as_ref();
    let hides = hides.and_then(|response| response.remove_accept_encoding_header.as_ref());
    match hides {
        Some(hides) => Ok(Arc::new(HidesAccept(hides.value))),
        None => Ok(Arc::new(crate::http::filter::Enabled)),
    }
}
