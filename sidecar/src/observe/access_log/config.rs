//! `AccessLog` → [`AccessLog`].

use std::path::PathBuf;

use envoy_types::pb::envoy::config::accesslog::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::{SubstitutionFormatString, substitution_format_string};
use envoy_types::pb::envoy::data::accesslog::v3::AccessLogType;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};
use envoy_types::pb::google::protobuf;

use super::filter::{Comparison, Op};
use super::{AccessLog, Destination, Filter, Json, Line, Shape};
use crate::config::{ConfigError, Within, bool_or, each, is, structure, type_name, unpack};
use crate::error::ResponseFlags;
use crate::format::Format;
use crate::matcher::config as matchers;

/// Envoy's own line.
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
                       %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
                       \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \
                       \"%UPSTREAM_HOST%\"\n";

/// Compiles an access log.
///
/// # Errors
/// A logger, filter or operator that is not known or not supported.
pub fn access_log(config: &pb::AccessLog) -> Result<AccessLog, ConfigError> {
    let filter = config.filter.as_ref().map(filter).transpose().within("filter")?;
    let Some(pb::access_log::ConfigType::TypedConfig(any)) = &config.config_type else {
        return Err(ConfigError::at("typed_config", "value is required"));
    };
    let (shape, to) = logger(&config.name, any).within("typed_config")?;
    to.open();
    Ok(AccessLog { filter, shape, to })
}

/// Compiles a filter.
///
/// # Errors
/// A kind of filter that is not supported, or a bad one.
pub fn filter(config: &pb::AccessLogFilter) -> Result<Filter, ConfigError> {
    use pb::access_log_filter::FilterSpecifier as Kind;
    let kind = config.filter_specifier.as_ref().ok_or_else(|| ConfigError::new("filter_specifier is required"))?;
    Ok(match kind {
        Kind::StatusCodeFilter(f) => {
            Filter::StatusCode(comparison(f.comparison.as_ref()).within("status_code_filter.comparison")?)
        }
        Kind::DurationFilter(f) => {
            Filter::Duration(comparison(f.comparison.as_ref()).within("duration_filter.comparison")?)
        }
        Kind::NotHealthCheckFilter(_) => Filter::NotHealthCheck,
        Kind::TraceableFilter(_) => Filter::Traceable,
        Kind::RuntimeFilter(f) => Filter::Runtime {
            share: matchers::fraction(&f.percent_sampled.unwrap_or_default()),
            independent: f.use_independent_randomness,
        },
        Kind::AndFilter(f) => Filter::And(several("and_filter.filters", &f.filters)?),
        Kind::OrFilter(f) => Filter::Or(several("or_filter.filters", &f.filters)?),
        Kind::HeaderFilter(f) => {
            let header =
                f.header.as_ref().ok_or_else(|| ConfigError::at("header_filter.header", "value is required"))?;
            Filter::Header(matchers::header(header).within("header_filter.header")?)
        }
        Kind::ResponseFlagFilter(f) => Filter::ResponseFlag(each("response_flag_filter.flags", &f.flags, |flag| {
            ResponseFlags::by_short_name(flag).ok_or_else(|| ConfigError::new(format!("'{flag}' is no response flag")))
        })?),
        Kind::GrpcStatusFilter(f) => Filter::GrpcStatus {
            statuses: each("grpc_status_filter.statuses", &f.statuses, |status| {
                u16::try_from(*status).map_err(|_| ConfigError::new(format!("{status} is no gRPC status")))
            })?,
            exclude: f.exclude,
        },
        Kind::LogTypeFilter(f) => {
            let tells = |kind: AccessLogType| f.types.contains(&kind.into()) != f.exclude;
            Filter::LogType { http: tells(AccessLogType::DownstreamEnd), tcp: tells(AccessLogType::TcpConnectionEnd) }
        }
        Kind::MetadataFilter(f) => Filter::Metadata {
            matcher: f.matcher.as_ref().map(matchers::metadata).transpose().within("metadata_filter.matcher")?,
            absent: bool_or(f.match_if_key_not_found.as_ref(), true),
        },
        Kind::ExtensionFilter(f) => {
            return Err(ConfigError::at("extension_filter", format!("'{}' is not supported yet", f.name)));
        }
    })
}

/// And/or of fewer than two is refused, as Envoy refuses it.
fn several(field: &str, filters: &[pb::AccessLogFilter]) -> Result<Vec<Filter>, ConfigError> {
    match filters.len() {
        0 | 1 => Err(ConfigError::at(field, "value must contain at least 2 item(s)")),
        _ => each(field, filters, filter),
    }
}

fn comparison(config: Option<&pb::ComparisonFilter>) -> Result<Comparison, ConfigError> {
    use pb::comparison_filter::Op as Kind;
    let config = config.ok_or_else(|| ConfigError::new("value is required"))?;
    let value = config.value.as_ref().ok_or_else(|| ConfigError::at("value", "value is required"))?;
    let op = match config.op() {
        Kind::Eq => Op::Equal,
        Kind::Ge => Op::GreaterOrEqual,
        Kind::Le => Op::LessOrEqual,
        Kind::Ne => Op::NotEqual,
    };
    Ok(Comparison { op, value: crate::runtime::number(&value.runtime_key).unwrap_or(value.default_value.into()) })
}

fn logger(name: &str, any: &protobuf::Any) -> Result<(Shape, Destination), ConfigError> {
    if is::<FileAccessLog>(any) {
        let file: FileAccessLog = unpack(any)?;
        let to = match file.path.as_str() {
            "/dev/stdout" => Destination::Stdout,
            "/dev/stderr" => Destination::Stderr,
            path => Destination::File(PathBuf::from(path)),
        };
        return Ok((file_line(&file)?, to));
    }
    if is::<StdoutAccessLog>(any) {
        let stdout: StdoutAccessLog = unpack(any)?;
        let format = stdout.access_log_format.map(|stdout_access_log::AccessLogFormat::LogFormat(f)| f);
        return Ok((shape(format.as_ref())?, Destination::Stdout));
    }
    if is::<StderrAccessLog>(any) {
        let stderr: StderrAccessLog = unpack(any)?;
        let format = stderr.access_log_format.map(|stderr_access_log::AccessLogFormat::LogFormat(f)| f);
        return Ok((shape(format.as_ref())?, Destination::Stderr));
    }
    Err(ConfigError::new(format!(
        "Didn't find a registered implementation for '{name}' with type URL: '{}'",
        type_name(any)
    )))
}

#[allow(deprecated)] // The forms that log_format replaced are still written.
fn file_line(file: &FileAccessLog) -> Result<Shape, ConfigError> {
    use file_access_log::AccessLogFormat;
    match &file.access_log_format {
        None => shape(None),
        Some(AccessLogFormat::LogFormat(format)) => shape(Some(format)),
        Some(AccessLogFormat::Format(text)) => {
            Ok(Shape { line: Format::parse(text).map(Line::Text).within("format")?, omit_empty: false })
        }
        Some(AccessLogFormat::JsonFormat(json) | AccessLogFormat::TypedJsonFormat(json)) => {
            let line = json_format(&structure(json)).map(Line::Json).within("json_format")?;
            Ok(Shape { line, omit_empty: false })
        }
    }
}

/// Compiles what a line looks like; Envoy's own by default.
///
/// # Errors
/// An operator that is not known.
pub fn shape(config: Option<&SubstitutionFormatString>) -> Result<Shape, ConfigError> {
    use substitution_format_string::Format as Kind;
    let Some(config) = config else {
        return Ok(Shape { line: Format::parse(DEFAULT).map(Line::Text)?, omit_empty: false });
    };
    let line = match config.format.as_ref() {
        #[allow(deprecated)] // As above.
        Some(Kind::TextFormat(text)) => Format::parse(text).map(Line::Text).within("log_format.text_format"),
        Some(Kind::TextFormatSource(source)) => {
            let bytes = crate::config::data_source(source).within("log_format.text_format_source")?;
            let text = String::from_utf8(bytes).map_err(|_| ConfigError::at("log_format", "is not UTF-8"))?;
            Format::parse(&text).map(Line::Text).within("log_format.text_format_source")
        }
        Some(Kind::JsonFormat(json)) => json_format(&structure(json)).map(Line::Json).within("log_format.json_format"),
        None => Err(ConfigError::at("log_format", "one of text_format_source, json_format is required")),
    }?;
    Ok(Shape { line, omit_empty: config.omit_empty_values })
}

fn json_format(value: &serde_json::Value) -> Result<Json, ConfigError> {
    match value {
        serde_json::Value::String(text) => Format::parse(text).map(Json::Value),
        serde_json::Value::Object(fields) => fields
            .iter()
            .map(|(k, v)| Ok((k.clone(), json_format(v).within(k)?)))
            .collect::<Result<_, ConfigError>>()
            .map(Json::Object),
        serde_json::Value::Array(items) => items.iter().map(json_format).collect::<Result<_, _>>().map(Json::List),
        other => Ok(Json::Fixed(other.clone())),
    }
}
