//! `envoy.extensions.filters.http.decompressor.v3.Decompressor` → [`Decompressor`].

use envoy_types::pb::envoy::extensions::compression::gzip::decompressor::v3::Gzip;
use envoy_types::pb::envoy::extensions::filters::http::decompressor::v3 as pb;
use pb::decompressor::CommonDirectionConfig;

use super::{Decompressor, Direction};
use crate::config::{ConfigError, Within, bool_or, u32_or};
use crate::http::filter::compressor::config::{flag, gzip};
use crate::http::gzip::Passed;
use crate::observe::stats::Scope;

/// Source: `Gzip.max_inflate_ratio`.
const RATIO: u32 = 100;

/// Compiles the filter. `scope` is the connection manager's.
///
/// # Errors
/// A library other than gzip.
pub fn filter(name: &str, config: &pb::Decompressor, scope: &Scope) -> Result<Decompressor, ConfigError> {
    let library = config.decompressor_library.as_ref();
    let library = library.ok_or_else(|| ConfigError::at("decompressor_library", "value is required"))?;
    let settings: Gzip = gzip(library).within("decompressor_library")?;
    let scope = scope.child("decompressor").child(&library.name).child("gzip");
    let (request, response) = (config.request_direction_config.as_ref(), config.response_direction_config.as_ref());
    let advertises = request.and_then(|request| request.advertise_accept_encoding.as_ref());
    Ok(Decompressor {
        name: name.to_owned(),
        ratio: u32_or(settings.max_inflate_ratio.as_ref(), RATIO).max(1),
        request: direction(request.and_then(|d| d.common_config.as_ref()), &scope.child("request")),
        response: direction(response.and_then(|d| d.common_config.as_ref()), &scope.child("response")),
        advertises: bool_or(advertises, true),
    })
}

fn direction(config: Option<&CommonDirectionConfig>, scope: &Scope) -> Direction {
    Direction {
        enabled: flag(config.and_then(|config| config.enabled.as_ref())),
        always: config.is_some_and(|config| config.ignore_no_transform_header),
        decompressed: scope.counter("decompressed"),
        not_decompressed: scope.counter("not_decompressed"),
        passed: Passed {
            before: scope.counter("total_compressed_bytes"),
            after: scope.counter("total_uncompressed_bytes"),
        },
    }
}
