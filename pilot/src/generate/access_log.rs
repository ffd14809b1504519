//! Access logs: Envoy's own line, or JSON with Istio's keys.

use api::mesh_config::AccessLogFormat;
use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log};
use envoy_types::pb::envoy::config::core::v3::{SubstitutionFormatString, substitution_format_string};
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};

use super::{any, value};
use crate::ir;

/// Source: Istio `pilot/pkg/model/telemetry_logging.go`, `EnvoyJSONLogFormatIstio`.
const JSON: [(&str, &str); 23] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
];

/// One log, or none.
pub(super) fn access_logs(log: Option<&ir::AccessLog>) -> Vec<AccessLog> {
    let file = |log: &ir::AccessLog| FileAccessLog {
        path: log.path.clone(),
        access_log_format: match log.format {
            AccessLogFormat::Json => Some(file_access_log::AccessLogFormat::LogFormat(json())),
            AccessLogFormat::Text | AccessLogFormat::None => None,
        },
    };
    let logger = |log: &ir::AccessLog| AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(any(&file(log)))),
        ..Default::default()
    };
    log.map(logger).into_iter().collect()
}

fn json() -> SubstitutionFormatString {
    let more = [("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%".to_owned())];
    let fields = JSON.into_iter().map(|(key, operator)| (key, operator.to_owned())).chain(more);
    SubstitutionFormatString {
        format: Some(substitution_format_string::Format::JsonFormat(value::texts(fields))),
        ..Default::default()
    }
}
