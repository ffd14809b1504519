//! A route's rewrites and redirects, compiled.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::extensions::path::rewrite::uri_template::v3::UriTemplateRewriteConfig;

use super::template::TemplateRewrite;
use super::{HostRewrite, PathRewrite, Redirect};
use crate::config::{ConfigError, Within, unpack};
use crate::format::Format;
use crate::matcher::config as matchers;
use crate::route::PathMatch;

/// Compiles a redirect.
///
/// # Errors
/// A regex or a format that is none.
pub fn redirect(config: &pb::RedirectAction) -> Result<Redirect, ConfigError> {
    use pb::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let (mut path, mut rewrite) = (None, PathRewrite::Keep);
    match &config.path_rewrite_specifier {
        None => {}
        Some(PathRewriteSpecifier::PathRedirect(to)) => path = Some(to.clone()),
        Some(PathRewriteSpecifier::PrefixRewrite(to)) => rewrite = PathRewrite::Prefix(to.clone()),
        Some(PathRewriteSpecifier::RegexRewrite(r)) => {
            let regex = matchers::search_regex(r.pattern.as_ref()).within("regex_rewrite.pattern")?;
            rewrite = PathRewrite::Regex(regex, matchers::substitution(&r.substitution));
        }
        Some(PathRewriteSpecifier::PathRewrite(format)) => {
            rewrite = PathRewrite::Format(Format::parse(format).within("path_rewrite")?);
        }
    }
    Ok(Redirect {
        status: match config.response_code() {
            RedirectResponseCode::MovedPermanently => 301,
            RedirectResponseCode::Found => 302,
            RedirectResponseCode::SeeOther => 303,
            RedirectResponseCode::TemporaryRedirect => 307,
            RedirectResponseCode::PermanentRedirect => 308,
        },
        https: matches!(config.scheme_rewrite_specifier, Some(SchemeRewriteSpecifier::HttpsRedirect(true))),
        scheme: match &config.scheme_rewrite_specifier {
            Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(scheme.clone()),
            _ => None,
        },
        host: (!config.host_redirect.is_empty()).then(|| config.host_redirect.clone()),
        port: u16::try_from(config.port_redirect).ok().filter(|p| *p != 0),
        path,
        rewrite,
        strip_query: config.strip_query,
    })
}

/// Compiles a route's path rewrite.
///
/// # Errors
/// A regex, a format or a template that is none.
pub fn path_rewrite(config: &pb::RouteAction, matched: &PathMatch) -> Result<PathRewrite, ConfigError> {
    if let Some(rewrite) = &config.regex_rewrite {
        let regex = matchers::search_regex(rewrite.pattern.as_ref()).within("regex_rewrite.pattern")?;
        return Ok(PathRewrite::Regex(regex, matchers::substitution(&rewrite.substitution)));
    }
    if !config.prefix_rewrite.is_empty() {
        return Ok(PathRewrite::Prefix(config.prefix_rewrite.clone()));
    }
    if !config.path_rewrite.is_empty() {
        return Format::parse(&config.path_rewrite).map(PathRewrite::Format).within("path_rewrite");
    }
    match &config.path_rewrite_policy {
        Some(policy) => template(policy, matched).map(PathRewrite::Template).within("path_rewrite_policy"),
        None => Ok(PathRewrite::Keep),
    }
}

fn template(policy: &TypedExtensionConfig, matched: &PathMatch) -> Result<TemplateRewrite, ConfigError> {
    let any = policy.typed_config.as_ref().ok_or_else(|| ConfigError::at("typed_config", "value is required"))?;
    let config: UriTemplateRewriteConfig = unpack(any).within("typed_config")?;
    TemplateRewrite::parse(&config.path_template_rewrite, matched).map_err(ConfigError::new)
}

/// Compiles a route's host rewrite.
///
/// # Errors
/// A regex or a format that is none.
pub fn host_rewrite(config: &pb::RouteAction) -> Result<HostRewrite, ConfigError> {
    use pb::route_action::HostRewriteSpecifier;
    Ok(match &config.host_rewrite_specifier {
        None => HostRewrite::Keep,
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => HostRewrite::Literal(host.clone()),
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => HostRewrite::Header(name.to_ascii_lowercase()),
        Some(HostRewriteSpecifier::AutoHostRewrite(on)) if on.value => HostRewrite::Chosen,
        Some(HostRewriteSpecifier::AutoHostRewrite(_)) => HostRewrite::Keep,
        Some(HostRewriteSpecifier::HostRewritePathRegex(r)) => HostRewrite::PathRegex(
            matchers::search_regex(r.pattern.as_ref()).within("host_rewrite_path_regex.pattern")?,
            matchers::substitution(&r.substitution),
        ),
        Some(HostRewriteSpecifier::HostRewrite(format)) => {
            HostRewrite::Format(Format::parse(format).within("host_rewrite")?)
        }
    })
}
