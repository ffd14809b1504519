//! `InternalRedirectPolicy` → [`InternalRedirects`].

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::extensions::internal_redirect::allow_listed_routes::v3::AllowListedRoutesConfig;
use envoy_types::pb::envoy::extensions::internal_redirect::previous_routes::v3::PreviousRoutesConfig;
use envoy_types::pb::envoy::extensions::internal_redirect::safe_cross_scheme::v3::SafeCrossSchemeConfig;
use http::header::HeaderName;

use super::InternalRedirects;
use crate::config::{ConfigError, Within, each, is, type_name, u32_or, unpack};

/// A route's policy; older control planes say just that redirects are to be followed.
///
/// # Errors
/// A predicate that is not known.
pub fn internal_redirects(config: &pb::RouteAction) -> Result<Option<InternalRedirects>, ConfigError> {
    #[allow(deprecated)] // As above.
    let follows = config.internal_redirect_action() == pb::route_action::InternalRedirectAction::HandleInternalRedirect;
    match &config.internal_redirect_policy {
        Some(policy) => internal_redirect_policy(policy).map(Some).within("internal_redirect_policy"),
        #[allow(deprecated)] // As above.
        None if follows => Ok(Some(InternalRedirects {
            max: u32_or(config.max_internal_redirects.as_ref(), 1),
            ..InternalRedirects::default()
        })),
        None => Ok(None),
    }
}

fn internal_redirect_policy(config: &pb::InternalRedirectPolicy) -> Result<InternalRedirects, ConfigError> {
    let mut policy = InternalRedirects {
        max: u32_or(config.max_internal_redirects.as_ref(), 1),
        across_schemes: config.allow_cross_scheme_redirect,
        copy_headers: each("response_headers_to_copy", &config.response_headers_to_copy, |name| {
            HeaderName::try_from(name.as_str()).map_err(|_| ConfigError::new(format!("'{name}' is no header name")))
        })?,
        ..InternalRedirects::default()
    };
    let codes: Vec<u16> = config.redirect_response_codes.iter().filter_map(|c| u16::try_from(*c).ok()).collect();
    if !codes.is_empty() {
        policy.codes = codes.into_iter().filter(|code| [301, 302, 303, 307, 308].contains(code)).collect();
    }
    for (i, config) in config.predicates.iter().enumerate() {
        predicate(&mut policy, config).within(&format!("predicates[{i}]"))?;
    }
    Ok(policy)
}

fn predicate(policy: &mut InternalRedirects, config: &TypedExtensionConfig) -> Result<(), ConfigError> {
    let any = config.typed_config.as_ref().ok_or_else(|| ConfigError::at("typed_config", "value is required"))?;
    match () {
        () if is::<PreviousRoutesConfig>(any) => policy.new_routes_only = true,
        () if is::<SafeCrossSchemeConfig>(any) => policy.safe_schemes_only = true,
        () if is::<AllowListedRoutesConfig>(any) => {
            policy.allowed = Some(unpack::<AllowListedRoutesConfig>(any)?.allowed_route_names);
        }
        () => {
            return Err(ConfigError::new(format!(
                "Didn't find a registered implementation for '{}' with type URL: '{}'",
                config.name,
                type_name(any)
            )));
        }
    }
    Ok(())
}
