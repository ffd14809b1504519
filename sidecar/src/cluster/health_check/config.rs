//! `HealthCheck` → [`HealthCheck`].

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::r#type::v3::{CodecClientType, Int64Range};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{HealthCheck, HttpCheck, Intervals, Kind};
use crate::config::{ConfigError, Within, bool_or, duration, each, u32_or};

/// Compiles one check.
///
/// # Errors
/// A custom check, or a header or payload that is none.
pub fn health_check(config: &core::HealthCheck) -> Result<HealthCheck, ConfigError> {
    let given = |value, default: Duration| duration(value).filter(|d| !d.is_zero()).unwrap_or(default);
    let interval = given(config.interval.as_ref(), Duration::from_secs(60));
    let unhealthy = given(config.unhealthy_interval.as_ref(), interval);
    let no_traffic = given(config.no_traffic_interval.as_ref(), Duration::from_secs(60));
    Ok(HealthCheck {
        timeout: given(config.timeout.as_ref(), Duration::from_secs(5)),
        intervals: Intervals {
            healthy: interval,
            unhealthy,
            to_unhealthy: given(config.unhealthy_edge_interval.as_ref(), unhealthy),
            to_healthy: given(config.healthy_edge_interval.as_ref(), interval),
            no_traffic,
            no_traffic_healthy: given(config.no_traffic_healthy_interval.as_ref(), no_traffic),
        },
        initial_jitter: duration(config.initial_jitter.as_ref()).unwrap_or_default(),
        jitter: duration(config.interval_jitter.as_ref()).unwrap_or_default(),
        jitter_percent: config.interval_jitter_percent,
        unhealthy_threshold: u32_or(config.unhealthy_threshold.as_ref(), 1).max(1),
        healthy_threshold: u32_or(config.healthy_threshold.as_ref(), 1).max(1),
        alt_port: config.alt_port.as_ref().and_then(|p| u16::try_from(p.value).ok()),
        reuse_connection: bool_or(config.reuse_connection.as_ref(), true),
        kind: kind(config)?,
    })
}

fn kind(config: &core::HealthCheck) -> Result<Kind, ConfigError> {
    use core::health_check::HealthChecker;
    match &config.health_checker {
        Some(HealthChecker::HttpHealthCheck(http)) => http_check(http).map(Kind::Http).within("http_health_check"),
        Some(HealthChecker::TcpHealthCheck(tcp)) => Ok(Kind::Tcp {
            send: tcp.send.as_ref().map(payload).transpose().within("tcp_health_check.send")?.unwrap_or_default(),
            receive: each("tcp_health_check.receive", &tcp.receive, payload)?,
        }),
        Some(HealthChecker::GrpcHealthCheck(grpc)) => {
            Ok(Kind::Grpc { service: grpc.service_name.clone(), authority: grpc.authority.clone() })
        }
        Some(HealthChecker::CustomHealthCheck(custom)) => Err(ConfigError::at(
            "custom_health_check",
            format!("Didn't find a registered implementation for name: '{}'", custom.name),
        )),
        None => Err(ConfigError::new("one of http_health_check, tcp_health_check, grpc_health_check is required")),
    }
}

fn http_check(config: &core::health_check::HttpHealthCheck) -> Result<HttpCheck, ConfigError> {
    let mut headers = HeaderMap::new();
    for (i, option) in config.request_headers_to_add.iter().enumerate() {
        let bad = || ConfigError::at(format!("request_headers_to_add[{i}]"), "is no header");
        let header = option.header.as_ref().ok_or_else(bad)?;
        let name = HeaderName::try_from(header.key.as_str()).map_err(|_| bad())?;
        headers.append(name, HeaderValue::from_str(&header.value).map_err(|_| bad())?);
    }
    let method = match config.method() {
        core::RequestMethod::MethodUnspecified => Method::GET,
        named => {
            Method::from_bytes(named.as_str_name().as_bytes()).map_err(|_| ConfigError::at("method", "is no method"))?
        }
    };
    let ranges = |list: &[Int64Range]| -> Vec<(u16, u16)> {
        let bounds = list.iter().map(|r| (u16::try_from(r.start).ok(), u16::try_from(r.end).ok()));
        bounds.filter_map(|(start, end)| Some((start?, end?))).collect()
    };
    let expected = ranges(&config.expected_statuses);
    Ok(HttpCheck {
        method,
        host: config.host.clone(),
        path: config.path.clone(),
        headers,
        send: config.send.as_ref().map(payload).transpose().within("send")?.unwrap_or_default(),
        expected: if expected.is_empty() { vec![(200, 201)] } else { expected },
        retriable: ranges(&config.retriable_statuses),
        http2: config.codec_client_type() == CodecClientType::Http2,
    })
}

/// Text payloads are written in hex.
fn payload(config: &core::health_check::Payload) -> Result<Vec<u8>, ConfigError> {
    use core::health_check::payload::Payload;
    match &config.payload {
        Some(Payload::Binary(bytes)) => Ok(bytes.clone()),
        Some(Payload::Text(hex)) => {
            let digit = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
            let bytes: Option<Vec<u8>> = (0..hex.len()).step_by(2).map(digit).collect();
            bytes.ok_or_else(|| ConfigError::at("text", "payload must be written in hex"))
        }
        None => Err(ConfigError::new("one of text, binary is required")),
    }
}

/// A check with these thresholds.
#[cfg(test)]
pub fn check_for_tests(healthy: u32, unhealthy: u32) -> HealthCheck {
    let threshold = |value| Some(envoy_types::pb::google::protobuf::UInt32Value { value });
    health_check(&core::HealthCheck {
        healthy_threshold: threshold(healthy),
        unhealthy_threshold: threshold(unhealthy),
        health_checker: Some(core::health_check::HealthChecker::TcpHealthCheck(Default::default())),
        ..Default::default()
    })
    .unwrap()
}
