//! `AccessLog` → [`AccessLog`].

use std::path::PathBuf;

use envoy_types::pb::envoy::config::accesslog::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::{SubstitutionFormatString, substitution_format_string};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};
use envoy_types::pb::google::protobuf;

use super::{AccessLog, Destination, Json, Line};
use crate::config::{ConfigError, Within, is, structure, type_name, unpack};
use crate::format::Format;

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
    if config.filter.is_some() {
        return Err(ConfigError::at("filter", "access log filters are not supported yet"));
    }
    let Some(pb::access_log::ConfigType::TypedConfig(any)) = &config.config_type else {
        return Err(ConfigError::at("typed_config", "value is required"));
    };
    logger(&config.name, any).within("typed_config")
}

fn logger(name: &str, any: &protobuf::Any) -> Result<AccessLog, ConfigError> {
    if is::<FileAccessLog>(any) {
        let file: FileAccessLog = unpack(any)?;
        let to = match file.path.as_str() {
            "/dev/stdout" => Destination::Stdout,
            "/dev/stderr" => Destination::Stderr,
            path => Destination::File(PathBuf::from(path)),
        };
        return Ok(AccessLog { line: file_line(&file)?, to });
    }
    if is::<StdoutAccessLog>(any) {
        let stdout: StdoutAccessLog = unpack(any)?;
        let format = stdout.access_log_format.map(|stdout_access_log::AccessLogFormat::LogFormat(f)| f);
        return Ok(AccessLog { line: line(format.as_ref())?, to: Destination::Stdout });
    }
    if is::<StderrAccessLog>(any) {
        let stderr: StderrAccessLog = unpack(any)?;
        let format = stderr.access_log_format.map(|stderr_access_log::AccessLogFormat::LogFormat(f)| f);
        return Ok(AccessLog { line: line(format.as_ref())?, to: Destination::Stderr });
    }
    Err(ConfigError::new(format!(
        "Didn't find a registered implementation for '{name}' with type URL: '{}'",
        type_name(any)
    )))
}

#[allow(deprecated)] // The forms that log_format replaced are still written.
fn file_line(file: &FileAccessLog) -> Result<Line, ConfigError> {
    use file_access_log::AccessLogFormat;
    match &file.access_log_format {
        None => line(None),
        Some(AccessLogFormat::LogFormat(format)) => line(Some(format)),
        Some(AccessLogFormat::Format(text)) => Format::parse(text).map(Line::Text).within("format"),
        Some(AccessLogFormat::JsonFormat(json) | AccessLogFormat::TypedJsonFormat(json)) => {
            json_format(&structure(json)).map(Line::Json).within("json_format")
        }
    }
}

fn line(config: Option<&SubstitutionFormatString>) -> Result<Line, ConfigError> {
    use substitution_format_string::Format as Kind;
    let Some(config) = config else { return Format::parse(DEFAULT).map(Line::Text) };
    match config.format.as_ref() {
        #[allow(deprecated)] // As above.
        Some(Kind::TextFormat(text)) => Format::parse(text).map(Line::Text).within("log_format.text_format"),
        Some(Kind::TextFormatSource(source)) => {
            let bytes = crate::config::data_source(source).within("log_format.text_format_source")?;
            let text = String::from_utf8(bytes).map_err(|_| ConfigError::at("log_format", "is not UTF-8"))?;
            Format::parse(&text).map(Line::Text).within("log_format.text_format_source")
        }
        Some(Kind::JsonFormat(json)) => json_format(&structure(json)).map(Line::Json).within("log_format.json_format"),
        None => Err(ConfigError::at("log_format", "one of text_format_source, json_format is required")),
    }
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
