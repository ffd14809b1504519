//! `LocalReplyConfig` → [`Mapping`].

use envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format as Kind;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use http::HeaderValue;

use super::{BodyFormat, Mapper, Mapping};
use crate::config::{ConfigError, Within, each};
use crate::observe::access_log::config as access_log;
use crate::route::HeaderOps;
use crate::route::config::add_header;

/// Compiles the mapping.
///
/// # Errors
/// A filter, a format or a header that is none.
pub fn mapping(config: &hcm::LocalReplyConfig) -> Result<Mapping, ConfigError> {
    Ok(Mapping {
        mappers: each("mappers", &config.mappers, mapper)?,
        format: config.body_format.as_ref().map(body_format).transpose().within("body_format")?,
    })
}

fn mapper(config: &hcm::ResponseMapper) -> Result<Mapper, ConfigError> {
    let filter = config.filter.as_ref().ok_or_else(|| ConfigError::at("filter", "value is required"))?;
    let body = config.body.as_ref().map(crate::config::data_source).transpose().within("body")?;
    let body = body.map(String::from_utf8).transpose().map_err(|_| ConfigError::at("body", "is not UTF-8"))?;
    Ok(Mapper {
        filter: access_log::filter(filter).within("filter")?,
        status: config.status_code.as_ref().and_then(|code| u16::try_from(code.value).ok()),
        body,
        format: config.body_format_override.as_ref().map(body_format).transpose().within("body_format_override")?,
        headers: HeaderOps {
            add_response: each("headers_to_add", &config.headers_to_add, add_header)?,
            ..HeaderOps::default()
        },
    })
}

fn body_format(config: &SubstitutionFormatString) -> Result<BodyFormat, ConfigError> {
    let content_type = match (&config.format, config.content_type.as_str()) {
        (Some(Kind::JsonFormat(_)), "") => "application/json",
        (_, "") => "text/plain",
        (_, own) => own,
    };
    Ok(BodyFormat {
        shape: access_log::shape(Some(config))?,
        content_type: HeaderValue::from_str(content_type)
            .map_err(|_| ConfigError::at("content_type", "is no header value"))?,
    })
}
