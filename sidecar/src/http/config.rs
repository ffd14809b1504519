//! `HttpConnectionManager` → [`ConnectionManager`]: defaults, limits, and what is refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use hcm::http_connection_manager as parts;
use http::HeaderValue;
use prost::Message;

use super::filter::config as filter_config;
use super::forwarded::ForwardedRules;
use super::limits::Rules;
use super::path::{EscapedSlashes, PathRules};
use super::request_id::RequestIdRules;
use super::upgrade::Upgrade;
use super::xfcc::{Details, Forward, XfccRules};
use super::{
    CodecType, ConnectionManager, DownstreamHttp2, Http1Options, ManagerStats, RouteSource, ServerHeader, StripPort,
    Underscores,
};
use crate::config::{ConfigError, Within, bool_or, duration, each, limit, u32_or, unpack};
use crate::observe::stats::Scope;
use crate::observe::trace::Side;
use crate::observe::trace::config::tracer;
use crate::route::RouteTable;

const DEFAULT_IDLE: Duration = Duration::from_secs(3600);
const DEFAULT_STREAM_IDLE: Duration = Duration::from_secs(300);

/// What is known around a connection manager while it is compiled.
pub struct Context<'a> {
    /// The listener's `traffic_direction` is INBOUND.
    pub inbound: bool,
    /// It is OUTBOUND: spans show the client's side.
    pub outbound: bool,
    /// This host's own address, for x-forwarded-for.
    pub own_address: Option<IpAddr>,
    /// Bytes of a message that may be kept; 1 MiB. Source: `Listener.per_connection_buffer_limit_bytes`.
    pub buffer_limit: usize,
    /// Does a cluster exist?
    pub cluster_exists: &'a dyn Fn(&str) -> bool,
}

impl Context<'_> {
    fn scope(&self) -> crate::route::config::Scope<'_> {
        crate::route::config::Scope {
            cluster_exists: self.cluster_exists,
            validate_clusters: true,
            filter: &filter_config::route_settings,
        }
    }
}

/// Compiles a route table that came by itself: its clusters may come later.
///
/// # Errors
/// A field that Envoy refuses, or that is not supported.
pub fn discovered_routes(
    config: &RouteConfiguration,
    cluster_exists: &dyn Fn(&str) -> bool,
) -> Result<RouteTable, ConfigError> {
    let context = Context { inbound: false, outbound: false, own_address: None, buffer_limit: 0, cluster_exists };
    crate::route::config::route_table(
        config,
        &crate::route::config::Scope { validate_clusters: false, ..context.scope() },
    )
}

/// What is known to Envoy, but not supported here yet, is refused by its path.
fn refuse_unsupported(config: &hcm::HttpConnectionManager) -> Result<(), ConfigError> {
    let unsupported = [
        ("forward_client_cert_matcher", config.forward_client_cert_matcher.is_some()),
        ("original_ip_detection_extensions", !config.original_ip_detection_extensions.is_empty()),
        ("early_header_mutation_extensions", !config.early_header_mutation_extensions.is_empty()),
        ("add_user_agent", bool_or(config.add_user_agent.as_ref(), false)),
        ("proxy_status_config", config.proxy_status_config.is_some()),
    ];
    match unsupported.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(ConfigError::at(*field, "is not supported yet")),
        None => Ok(()),
    }
}

/// Compiles a connection manager.
///
/// # Errors
/// A field that Envoy refuses, or that is not supported.
pub fn connection_manager(
    config: &hcm::HttpConnectionManager,
    context: &Context<'_>,
) -> Result<ConnectionManager, ConfigError> {
    let common = config.common_http_protocol_options.unwrap_or_default();
    let (filters, router) = filter_config::chain(&config.http_filters, &Scope::http(&config.stat_prefix))?;
    refuse_unsupported(config)?;
    let access_logs = each("access_log", &config.access_log, crate::observe::access_log::config::access_log)?;
    let side = if context.outbound { Side::Client } else { Side::Server };
    let tracer = config.tracing.as_ref().map(|tracing| tracer(tracing, side, context.own_address)).transpose();
    let tracer = tracer.within("tracing")?.flatten();
    let needs_request_headers =
        tracer.is_some() || !access_logs.is_empty() || filters.iter().any(|link| link.filter.watches_end());
    Ok(ConnectionManager {
        stats: ManagerStats::new(&config.stat_prefix),
        codec: codec(config.codec_type())?,
        routes: routes(config, context)?,
        filters,
        access_logs,
        needs_request_headers,
        tracer,
        server_name: HeaderValue::from_str(if config.server_name.is_empty() { "envoy" } else { &config.server_name })
            .map_err(|_| ConfigError::at("server_name", "is no header value"))?,
        server_header: match config.server_header_transformation() {
            parts::ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
            parts::ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
            parts::ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
        },
        forwarded: forwarded(config, context)?,
        xfcc: xfcc(config),
        upgrades: upgrades(config)?,
        request_id: request_id(config)?,
        path: path_rules(config),
        strip_port: strip_port(config),
        strip_trailing_dot: config.strip_trailing_host_dot,
        underscores: underscores(common.headers_with_underscores_action()),
        proxy_100_continue: config.proxy_100_continue,
        via: (!config.via.is_empty())
            .then(|| HeaderValue::from_str(&config.via))
            .transpose()
            .map_err(|_| ConfigError::at("via", "is no header value"))?,
        http1: http1(config.http_protocol_options.as_ref())?,
        http2: http2(config.http2_protocol_options.as_ref())?,
        max_request_headers_kb: match u32_or(config.max_request_headers_kb.as_ref(), 60) {
            kb @ 1..=8192 => kb,
            kb => return Err(ConfigError::at("max_request_headers_kb", format!("{kb} is not from 1 to 8192"))),
        },
        max_headers_count: u32_or(common.max_headers_count.as_ref(), 100),
        max_requests_per_connection: u32_or(common.max_requests_per_connection.as_ref(), 0),
        idle_timeout: limit(common.idle_timeout.as_ref(), Some(DEFAULT_IDLE)),
        max_connection_duration: limit(common.max_connection_duration.as_ref(), None),
        stream_limits: Rules {
            idle: limit(config.stream_idle_timeout.as_ref(), Some(DEFAULT_STREAM_IDLE)),
            request: limit(config.request_timeout.as_ref(), None),
            duration: limit(common.max_stream_duration.as_ref(), None),
        },
        local_replies: config
            .local_reply_config
            .as_ref()
            .map(super::local_reply::config::mapping)
            .transpose()
            .within("local_reply_config")?,
        request_headers_timeout: limit(config.request_headers_timeout.as_ref(), None),
        router,
        inbound: context.inbound,
        buffer_limit: context.buffer_limit,
        stat_prefix: config.stat_prefix.clone(),
    })
}

fn codec(kind: parts::CodecType) -> Result<CodecType, ConfigError> {
    match kind {
        parts::CodecType::Auto => Ok(CodecType::Auto),
        parts::CodecType::Http1 => Ok(CodecType::Http1),
        parts::CodecType::Http2 => Ok(CodecType::Http2),
        parts::CodecType::Http3 => Err(ConfigError::at("codec_type", "HTTP3 is not supported")),
    }
}

fn routes(config: &hcm::HttpConnectionManager, context: &Context<'_>) -> Result<RouteSource, ConfigError> {
    match &config.route_specifier {
        Some(parts::RouteSpecifier::RouteConfig(table)) => {
            let table = crate::route::config::route_table(table, &context.scope()).within("route_config")?;
            Ok(RouteSource::Inline(Arc::new(table)))
        }
        Some(parts::RouteSpecifier::Rds(rds)) => {
            if rds.route_config_name.is_empty() {
                return Err(ConfigError::at("rds.route_config_name", "value is required"));
            }
            let source = rds.config_source.as_ref().map(Message::encode_to_vec);
            let source = source.ok_or_else(|| ConfigError::at("rds.config_source", "value is required"))?;
            Ok(RouteSource::Discovered { name: rds.route_config_name.as_str().into(), source: source.into() })
        }
        Some(parts::RouteSpecifier::ScopedRoutes(_)) => Err(ConfigError::at("scoped_routes", "is not supported yet")),
        None => Err(ConfigError::new("one of rds, route_config, scoped_routes is required")),
    }
}

fn forwarded(config: &hcm::HttpConnectionManager, context: &Context<'_>) -> Result<ForwardedRules, ConfigError> {
    let inside = config.internal_address_config.clone().unwrap_or_default();
    Ok(ForwardedRules {
        use_remote_address: bool_or(config.use_remote_address.as_ref(), false),
        trusted_hops: config.xff_num_trusted_hops,
        skip_append: config.skip_xff_append,
        append_port: config.append_x_forwarded_port,
        internal: each("internal_address_config.cidr_ranges", &inside.cidr_ranges, crate::matcher::config::cidr)?,
        internal_unix_sockets: inside.unix_sockets,
        own_address: context.own_address,
    })
}

fn xfcc(config: &hcm::HttpConnectionManager) -> XfccRules {
    use parts::ForwardClientCertDetails as Kind;
    let details = config.set_current_client_cert_details.unwrap_or_default();
    XfccRules {
        forward: match config.forward_client_cert_details() {
            Kind::Sanitize => Forward::Sanitize,
            Kind::ForwardOnly => Forward::ForwardOnly,
            Kind::AppendForward => Forward::AppendForward,
            Kind::SanitizeSet => Forward::SanitizeSet,
            Kind::AlwaysForwardOnly => Forward::AlwaysForwardOnly,
        },
        details: Details {
            subject: bool_or(details.subject.as_ref(), false),
            cert: details.cert,
            chain: details.chain,
            uri: details.uri,
            dns: details.dns,
        },
    }
}

fn upgrades(config: &hcm::HttpConnectionManager) -> Result<Vec<Upgrade>, ConfigError> {
    each("upgrade_configs", &config.upgrade_configs, |upgrade| {
        if !upgrade.filters.is_empty() {
            return Err(ConfigError::at("filters", "filters of an upgrade's own are not supported yet"));
        }
        let kind = upgrade.upgrade_type.to_ascii_lowercase();
        Ok(Upgrade { kind, terminate: false, enabled: bool_or(upgrade.enabled.as_ref(), true) })
    })
}

fn request_id(config: &hcm::HttpConnectionManager) -> Result<RequestIdRules, ConfigError> {
    let uuid = match config.request_id_extension.as_ref().and_then(|e| e.typed_config.as_ref()) {
        None => UuidRequestIdConfig::default(),
        Some(any) => unpack(any).within("request_id_extension.typed_config")?,
    };
    Ok(RequestIdRules {
        generate: bool_or(config.generate_request_id.as_ref(), true),
        preserve_external: config.preserve_external_request_id,
        always_in_response: config.always_set_request_id_in_response,
        pack_trace_reason: bool_or(uuid.pack_trace_reason.as_ref(), true),
        use_for_sampling: bool_or(uuid.use_request_id_for_trace_sampling.as_ref(), true),
    })
}

fn path_rules(config: &hcm::HttpConnectionManager) -> PathRules {
    use parts::PathWithEscapedSlashesAction as Action;
    PathRules {
        normalize: bool_or(config.normalize_path.as_ref(), false),
        merge_slashes: config.merge_slashes,
        escaped_slashes: match config.path_with_escaped_slashes_action() {
            Action::ImplementationSpecificDefault | Action::KeepUnchanged => EscapedSlashes::Keep,
            Action::RejectRequest => EscapedSlashes::Reject,
            Action::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
            Action::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
        },
    }
}

fn strip_port(config: &hcm::HttpConnectionManager) -> StripPort {
    match config.strip_port_mode {
        Some(parts::StripPortMode::StripAnyHostPort(true)) => StripPort::Any,
        _ if config.strip_matching_host_port => StripPort::Matching,
        _ => StripPort::Never,
    }
}

fn underscores(action: core::http_protocol_options::HeadersWithUnderscoresAction) -> Underscores {
    use core::http_protocol_options::HeadersWithUnderscoresAction as Action;
    match action {
        Action::Allow => Underscores::Allow,
        Action::RejectRequest => Underscores::Reject,
        Action::DropHeader => Underscores::Drop,
    }
}

/// How header names are written in HTTP/1: (proper case, as received).
///
/// # Errors
/// A formatter that is not known.
pub fn header_case(options: &core::Http1ProtocolOptions) -> Result<(bool, bool), ConfigError> {
    use core::http1_protocol_options::header_key_format::HeaderFormat;
    match options.header_key_format.as_ref().and_then(|f| f.header_format.as_ref()) {
        None => Ok((false, false)),
        Some(HeaderFormat::ProperCaseWords(_)) => Ok((true, false)),
        Some(HeaderFormat::StatefulFormatter(extension)) => {
            let kind = extension.typed_config.as_ref().map_or("", crate::config::type_name);
            match kind {
                "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig" => {
                    Ok((false, true))
                }
                other => Err(ConfigError::at(
                    "header_key_format.stateful_formatter",
                    format!(
                        "Didn't find a registered implementation for '{}' with type URL: '{other}'",
                        extension.name
                    ),
                )),
            }
        }
    }
}

fn http1(options: Option<&core::Http1ProtocolOptions>) -> Result<Http1Options, ConfigError> {
    let Some(options) = options else { return Ok(Http1Options::default()) };
    let (title_case_headers, preserve_case) = header_case(options).within("http_protocol_options")?;
    Ok(Http1Options {
        accept_http_10: options.accept_http_10,
        default_host_for_http_10: HeaderValue::from_str(&options.default_host_for_http_10)
            .ok()
            .filter(|host| !host.is_empty()),
        title_case_headers,
        preserve_case,
        enable_trailers: options.enable_trailers,
    })
}

/// PING interval and timeout, if pings are wanted.
pub fn keepalive(settings: Option<&core::KeepaliveSettings>) -> Option<(Duration, Duration)> {
    let settings = settings?;
    let interval = duration(settings.interval.as_ref())?;
    Some((interval, duration(settings.timeout.as_ref())?))
}

fn http2(options: Option<&core::Http2ProtocolOptions>) -> Result<DownstreamHttp2, ConfigError> {
    let defaults = DownstreamHttp2::default();
    let Some(options) = options else { return Ok(defaults) };
    Ok(DownstreamHttp2 {
        initial_stream_window: window(
            "http2_protocol_options.initial_stream_window_size",
            options.initial_stream_window_size.as_ref().map(|v| v.value),
            defaults.initial_stream_window,
        )?,
        initial_connection_window: window(
            "http2_protocol_options.initial_connection_window_size",
            options.initial_connection_window_size.as_ref().map(|v| v.value),
            defaults.initial_connection_window,
        )?,
        max_concurrent_streams: options.max_concurrent_streams.as_ref().map(|v| v.value),
        keepalive: keepalive(options.connection_keepalive.as_ref()),
        allow_connect: options.allow_connect,
    })
}

/// An HTTP/2 window: 65,535 to 2³¹-1 bytes.
///
/// # Errors
/// Out of range.
pub fn window(path: &str, value: Option<u32>, default: u32) -> Result<u32, ConfigError> {
    match value {
        None => Ok(default),
        Some(size @ 65_535..=2_147_483_647) => Ok(size),
        Some(size) => Err(ConfigError::at(path, format!("{size} is not from 65535 to 2147483647"))),
    }
}
