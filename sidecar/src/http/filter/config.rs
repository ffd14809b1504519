//! The HTTP filters of a connection manager → filters.

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf;

use super::HttpFilter;
use crate::config::{ConfigError, Within, is, type_name, unpack};
use crate::http::router::RouterOptions;
use crate::observe::stats::Scope;

/// Compiles a chain; the router must end it.
///
/// # Errors
/// A filter that is not known and not optional, or no router at the end.
pub fn chain(
    configs: &[hcm::HttpFilter],
    scope: &Scope,
) -> Result<(Vec<Arc<dyn HttpFilter>>, RouterOptions), ConfigError> {
    let mut filters: Vec<Arc<dyn HttpFilter>> = Vec::new();
    let mut router = None;
    for (i, config) in configs.iter().enumerate() {
        let path = format!("http_filters[{i}]");
        let any = typed(config).within(&path)?;
        if is::<Router>(any) {
            if i + 1 != configs.len() {
                return Err(ConfigError::at(path, "the router must be the last filter"));
            }
            let config: Router = unpack(any).within(&path)?;
            router = Some(RouterOptions { suppress_envoy_headers: config.suppress_envoy_headers });
        } else if config.disabled {
            // A route could switch it on: routes with filter settings are refused.
        } else if is::<Rbac>(any) {
            let rules: Rbac = unpack(any).within(&path)?;
            filters.push(Arc::new(super::rbac::config::filter(&config.name, &rules, scope).within(&path)?));
        } else if !config.is_optional {
            return Err(ConfigError::at(
                path,
                format!(
                    "Didn't find a registered implementation for '{}' with type URL: '{}'",
                    config.name,
                    type_name(any)
                ),
            ));
        }
    }
    let router = router.ok_or_else(|| ConfigError::at("http_filters", "the last filter must be the router"))?;
    Ok((filters, router))
}

fn typed(config: &hcm::HttpFilter) -> Result<&protobuf::Any, ConfigError> {
    match &config.config_type {
        Some(hcm::http_filter::ConfigType::TypedConfig(any)) => Ok(any),
        Some(hcm::http_filter::ConfigType::ConfigDiscovery(_)) => {
            Err(ConfigError::at("config_discovery", "is not supported yet"))
        }
        None => Err(ConfigError::new(format!("{}: typed_config is required", config.name))),
    }
}
