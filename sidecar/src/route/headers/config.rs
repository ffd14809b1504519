//! `HeaderValueOption`s and names to remove → [`HeaderOps`].

use envoy_types::pb::envoy::config::core::v3 as core;
use http::header::HeaderName;

use super::{AddHeader, Append, HeaderOps};
use crate::config::{ConfigError, Within, each};
use crate::format::Format;

/// One level's additions and removals, for requests and for responses.
///
/// # Errors
/// A pseudo-header or Host is to be removed or added, a name is none, or a format is bad.
pub fn ops(
    add_request: &[core::HeaderValueOption],
    remove_request: &[String],
    add_response: &[core::HeaderValueOption],
    remove_response: &[String],
) -> Result<HeaderOps, ConfigError> {
    let names = |list: &[String], field: &str| {
        each(field, list, |name| {
            if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
                return Err(ConfigError::new(":-prefixed or host headers may not be removed"));
            }
            header_name(name)
        })
    };
    let mut request_authority = None;
    let mut adds = Vec::new();
    for (i, option) in add_request.iter().enumerate() {
        let key = option.header.as_ref().map_or("", |h| h.key.as_str());
        if key.eq_ignore_ascii_case("host") || key == ":authority" {
            let value = option.header.as_ref().map_or("", |h| h.value.as_str());
            request_authority = Some(Format::parse(value)?);
        } else {
            adds.push(add_header(option).within(&format!("request_headers_to_add[{i}]"))?);
        }
    }
    Ok(HeaderOps {
        add_request: adds,
        request_authority,
        remove_request: names(remove_request, "request_headers_to_remove")?,
        add_response: each("response_headers_to_add", add_response, add_header)?,
        remove_response: names(remove_response, "response_headers_to_remove")?,
    })
}

fn header_name(name: &str) -> Result<HeaderName, ConfigError> {
    HeaderName::try_from(name).map_err(|_| ConfigError::new(format!("'{name}' is no header name")))
}

/// Compiles one addition.
///
/// # Errors
/// A pseudo-header, a name that is none, or a bad format.
pub fn add_header(config: &core::HeaderValueOption) -> Result<AddHeader, ConfigError> {
    use core::header_value_option::HeaderAppendAction as Action;
    let header = config.header.clone().unwrap_or_default();
    if header.key.starts_with(':') {
        return Err(ConfigError::at("header", ":-prefixed or host headers may not be modified"));
    }
    #[allow(deprecated)] // `append: false` is how older configurations say overwrite.
    let append = match (&config.append, config.append_action()) {
        (Some(append), _) if !append.value => Append::OverwriteIfExistsOrAdd,
        (Some(_), _) | (None, Action::AppendIfExistsOrAdd) => Append::IfExistsOrAdd,
        (None, Action::AddIfAbsent) => Append::AddIfAbsent,
        (None, Action::OverwriteIfExistsOrAdd) => Append::OverwriteIfExistsOrAdd,
        (None, Action::OverwriteIfExists) => Append::OverwriteIfExists,
    };
    Ok(AddHeader {
        name: header_name(&header.key)?,
        value: Format::parse(&header.value)?,
        append,
        keep_empty: config.keep_empty_value,
    })
}
