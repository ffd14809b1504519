//! Filters → actions. A filter that is not known, or says nonsense, breaks its rule: it is answered with 500, never served
//! as if the filter were not there.
//!
//! Source: Gateway API `HTTPRouteFilter`.

use api::gateway::{Header, HeaderModifier, HttpFilter, Mirror, PathModifier, RequestRedirect, UrlRewrite};
use api::routing::{Actions, HeaderChanges, MirrorTo, PathRewrite, Redirect};
use api::scalar::{HttpStatus, Percent};
use api::{FieldPath, ObjectRef, Objects, Problem, Reason, check};

use super::backends;

/// What filters come to.
#[derive(Default)]
pub(super) struct Filters {
    pub(super) actions: Actions,
    /// Whether one of them cannot be applied.
    pub(super) broken: bool,
    pub(super) problems: Vec<Problem>,
}

type Wrong = (Reason, String);

/// The actions of the filters that stand in `field`, a list, of `source`.
pub(super) fn from_filters(
    filters: &[HttpFilter],
    source: &ObjectRef,
    field: &FieldPath,
    objects: &Objects,
) -> Filters {
    let mut all = Filters::default();
    for (n, filter) in filters.iter().enumerate() {
        if let Err((reason, message)) = add(&mut all.actions, filter, source, objects) {
            // A mirror that leads nowhere harms no request.
            all.broken |= filter.type_ != "RequestMirror";
            all.problems.push(Problem::new(reason, source.clone(), message).at(field.clone().index(n)));
        }
    }
    all
}

fn add(actions: &mut Actions, filter: &HttpFilter, source: &ObjectRef, objects: &Objects) -> Result<(), Wrong> {
    let missing = |field: &str| (Reason::MissingField, format!("missing field `{field}` of a {} filter", filter.type_));
    match filter.type_.as_str() {
        "RequestHeaderModifier" => {
            let modifier = filter.request_header_modifier.as_ref().ok_or_else(|| missing("requestHeaderModifier"))?;
            actions.request_headers = headers(modifier)?;
        }
        "ResponseHeaderModifier" => {
            let modifier = filter.response_header_modifier.as_ref().ok_or_else(|| missing("responseHeaderModifier"))?;
            actions.response_headers = headers(modifier)?;
        }
        "RequestMirror" => {
            let to = filter.request_mirror.as_ref().ok_or_else(|| missing("requestMirror"))?;
            actions.mirrors.push(mirror(to, source, objects)?);
        }
        "RequestRedirect" => {
            let to = filter.request_redirect.as_ref().ok_or_else(|| missing("requestRedirect"))?;
            actions.redirect = Some(redirect(to)?);
        }
        "URLRewrite" => {
            let UrlRewrite { hostname, path } = filter.url_rewrite.as_ref().ok_or_else(|| missing("urlRewrite"))?;
            actions.rewrite_host.clone_from(hostname);
            actions.rewrite_path = path.as_ref().map(rewrite).transpose()?;
        }
        other => {
            return Err((
                Reason::InvalidValue,
                format!("filter type `{other}` is not supported: the rule answers 500"),
            ));
        }
    }
    Ok(())
}

fn headers(modifier: &HeaderModifier) -> Result<HeaderChanges, Wrong> {
    let name = |name: &str| match check::header_name(name) {
        Some(lower) if !lower.starts_with(':') => Ok(lower),
        _ => Err((Reason::InvalidValue, format!("`{name}` is no header that can be changed"))),
    };
    let pairs = |headers: &[Header]| -> Result<Vec<(String, String)>, Wrong> {
        let pair = |header: &Header| {
            if header.value.contains(char::is_control) {
                return Err((Reason::InvalidValue, format!("the value of `{}` holds control characters", header.name)));
            }
            Ok((name(&header.name)?, header.value.clone()))
        };
        headers.iter().map(pair).collect()
    };
    Ok(HeaderChanges {
        set: pairs(&modifier.set)?,
        add: pairs(&modifier.add)?,
        remove: modifier.remove.iter().map(|header| name(header)).collect::<Result<_, _>>()?,
    })
}

fn mirror(to: &Mirror, source: &ObjectRef, objects: &Objects) -> Result<MirrorTo, Wrong> {
    let (service, port) = backends::target(&to.backend_ref, source, objects)
        .map_err(|(_, message)| (Reason::MissingReference, message))?;
    let percent = match (to.percent, to.fraction) {
        (Some(percent), _) => Some(percent),
        (None, Some(part)) if part.denominator > 0 => {
            Percent::new(f64::from(part.numerator) * 100.0 / f64::from(part.denominator))
        }
        (None, Some(_)) => None,
        (None, None) => Some(Percent::ALL),
    };
    let percent = percent.ok_or((Reason::InvalidValue, "a mirror's share must be 0 to 1".to_owned()))?;
    Ok(MirrorTo { service, port, percent })
}

fn redirect(to: &RequestRedirect) -> Result<Redirect, Wrong> {
    let code = to.status_code.unwrap_or(302);
    let status = HttpStatus::new(code).filter(|_| matches!(code, 301 | 302 | 303 | 307 | 308));
    let status = status.ok_or((Reason::InvalidValue, format!("{code} is no redirecting status")))?;
    if let Some(scheme) = to.scheme.as_ref().filter(|scheme| !matches!(scheme.as_str(), "http" | "https")) {
        return Err((Reason::InvalidValue, format!("`{scheme}` is no scheme: use http or https")));
    }
    Ok(Redirect {
        scheme: to.scheme.clone(),
        host: to.hostname.clone(),
        port: to.port.map(api::scalar::Port::get),
        path: to.path.as_ref().map(rewrite).transpose()?,
        status,
    })
}

fn rewrite(path: &PathModifier) -> Result<PathRewrite, Wrong> {
    let text = match path {
        PathModifier::ReplaceFullPath { path } => path,
        PathModifier::ReplacePrefixMatch { prefix } => prefix,
    };
    if text.contains(|c: char| c.is_control() || matches!(c, ' ' | '?' | '#')) {
        return Err((Reason::InvalidValue, format!("`{text}` is no path")));
    }
    Ok(match path {
        PathModifier::ReplaceFullPath { path } => PathRewrite::Full(path.clone()),
        PathModifier::ReplacePrefixMatch { prefix } => PathRewrite::Prefix(prefix.clone()),
    })
}
