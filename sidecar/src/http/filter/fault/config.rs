//! `envoy.extensions.filters.http.fault.v3.HTTPFault` → [`FaultFilter`] and a route's [`Settings`].

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::fault_abort::ErrorType;

use super::{Abort, Delay, FaultFilter, Settings, Stats};
use crate::config::{ConfigError, duration, each};
use crate::matcher::config as matchers;
use crate::observe::stats::Scope;

/// Compiles the filter. `scope` is the connection manager's.
///
/// # Errors
/// A field that is not supported, or a bad matcher.
pub fn filter(name: &str, config: &HttpFault, scope: &Scope) -> Result<FaultFilter, ConfigError> {
    let scope = scope.child("fault");
    Ok(FaultFilter {
        name: name.to_owned(),
        settings: Arc::new(settings(config)?),
        stats: Stats {
            aborts: scope.counter("aborts_injected"),
            delays: scope.counter("delays_injected"),
            active: scope.gauge("active_faults"),
            overflow: scope.counter("faults_overflow"),
        },
    })
}

/// Compiles a route's settings.
///
/// # Errors
/// As [`filter`].
pub fn settings(config: &HttpFault) -> Result<Settings, ConfigError> {
    if config.response_rate_limit.is_some() {
        return Err(ConfigError::at("response_rate_limit", "is not supported yet"));
    }
    let never = envoy_types::pb::envoy::r#type::v3::FractionalPercent::default();
    let delay = config.delay.as_ref().map(|delay| {
        let kind = match &delay.fault_delay_secifier {
            Some(FaultDelaySecifier::FixedDelay(fixed)) => Delay::Fixed(duration(Some(fixed)).unwrap_or_default()),
            Some(FaultDelaySecifier::HeaderDelay(_)) => Delay::Header,
            None => return Err(ConfigError::at("delay", "one of fixed_delay, header_delay is required")),
        };
        Ok((kind, matchers::fraction(delay.percentage.as_ref().unwrap_or(&never))))
    });
    let abort = config.abort.as_ref().map(|abort| {
        let kind = match &abort.error_type {
            Some(ErrorType::HttpStatus(status)) => Abort::Http(u16::try_from(*status).unwrap_or(503)),
            Some(ErrorType::GrpcStatus(status)) => Abort::Grpc(u16::try_from(*status).unwrap_or(2)),
            Some(ErrorType::HeaderAbort(_)) => Abort::Header,
            None => {
                let message = "one of http_status, grpc_status, header_abort is required";
                return Err(ConfigError::at("abort", message));
            }
        };
        Ok((kind, matchers::fraction(abort.percentage.as_ref().unwrap_or(&never))))
    });
    Ok(Settings {
        delay: delay.transpose()?,
        abort: abort.transpose()?,
        headers: each("headers", &config.headers, matchers::header)?,
        cluster: config.upstream_cluster.clone(),
        nodes: config.downstream_nodes.clone(),
        max_active: config.max_active_faults.as_ref().map(|max| max.value),
    })
}
