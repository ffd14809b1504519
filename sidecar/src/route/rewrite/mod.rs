//! New paths and hosts, for requests on their way up and for redirects.
//! Source: `RouteAction.{prefix_rewrite,regex_rewrite,path_rewrite,path_rewrite_policy}`, its host rewrites, and
//! `RedirectAction`.

pub mod config;
pub mod template;

use regex::Regex;

use super::PathMatch;
use crate::format::{Context, Format};
use crate::request::RequestHead;
use crate::stream::Stream;
use template::TemplateRewrite;

#[derive(Default)]
pub enum PathRewrite {
    #[default]
    Keep,
    Prefix(String),
    Regex(Regex, String),
    /// Takes the whole path's place. Source: `RouteAction.path_rewrite`.
    Format(Format),
    /// The path template's variables in other places.
    Template(TemplateRewrite),
}

impl PathRewrite {
    /// The new path with its query, or `None` if nothing changes. Case-insensitive prefixes are cut by length.
    pub fn apply(&self, matched: &PathMatch, head: &RequestHead, stream: &Stream) -> Option<String> {
        let path = head.path_only();
        let new = match self {
            PathRewrite::Keep => return None,
            PathRewrite::Prefix(with) => {
                let cut = match matched {
                    PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => prefix.len(),
                    _ => path.len(),
                };
                format!("{with}{}", path.get(cut..).unwrap_or(""))
            }
            PathRewrite::Regex(regex, with) => regex.replace_all(path, with.as_str()).into_owned(),
            PathRewrite::Format(format) => {
                format.to_text_or_empty(&Context { request: Some(head), ..Context::of(stream) })
            }
            PathRewrite::Template(rewrite) => rewrite.apply(matched, path)?,
        };
        Some(match head.query() {
            Some(query) => format!("{new}?{query}"),
            None => new,
        })
    }
}

#[derive(Default)]
pub enum HostRewrite {
    #[default]
    Keep,
    Literal(String),
    /// The value of this request header.
    Header(String),
    PathRegex(Regex, String),
    Format(Format),
    /// The name of the host that is chosen. Source: `auto_host_rewrite`.
    Chosen,
}

impl HostRewrite {
    /// The new host; `None`: it stays, or is known only when a host is chosen.
    pub fn apply(&self, head: &RequestHead, stream: &Stream) -> Option<String> {
        match self {
            HostRewrite::Keep | HostRewrite::Chosen => None,
            HostRewrite::Literal(host) => Some(host.clone()),
            HostRewrite::Header(name) => head.header(name).map(|v| String::from_utf8_lossy(&v).into_owned()),
            HostRewrite::PathRegex(regex, with) => {
                Some(regex.replace_all(head.path_only(), with.as_str()).into_owned())
            }
            HostRewrite::Format(format) => {
                Some(format.to_text_or_empty(&Context { request: Some(head), ..Context::of(stream) }))
            }
        }
    }
}

/// Source: `RedirectAction`.
pub struct Redirect {
    pub status: u16,
    pub https: bool,
    pub scheme: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub path: Option<String>,
    pub rewrite: PathRewrite,
    pub strip_query: bool,
}

impl Redirect {
    /// The same place by https. Source: Envoy's `SslRedirectRoute`.
    pub fn to_https() -> Self {
        Redirect {
            status: 301,
            https: true,
            scheme: None,
            host: None,
            port: None,
            path: None,
            rewrite: PathRewrite::Keep,
            strip_query: false,
        }
    }

    /// The `Location`. A port of the old scheme's default is dropped when the scheme changes.
    pub fn location(&self, matched: &PathMatch, head: &RequestHead, stream: &Stream) -> String {
        let old_scheme = head
            .header("x-forwarded-proto")
            .map_or_else(|| head.scheme.as_str().to_owned(), |v| String::from_utf8_lossy(&v).into_owned());
        let scheme = match &self.scheme {
            Some(scheme) => scheme.clone(),
            None if self.https => "https".to_owned(),
            None => old_scheme.clone(),
        };
        let authority = head.authority_str();
        let host = match (&self.host, self.port) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.clone(),
            (None, Some(port)) => format!("{}:{port}", super::without_port(authority)),
            (None, None) => {
                let old_default = if old_scheme == "https" { ":443" } else { ":80" };
                match authority.strip_suffix(old_default) {
                    Some(bare) if scheme != old_scheme => bare.to_owned(),
                    _ => authority.to_owned(),
                }
            }
        };
        let query = head.query().filter(|_| !self.strip_query);
        let path = match &self.path {
            Some(path) if path.contains('?') => return format!("{scheme}://{host}{path}"),
            Some(path) => path.clone(),
            None => {
                let rewritten = self.rewrite.apply(matched, head, stream);
                rewritten.map_or_else(|| head.path_only().to_owned(), |p| p.split('?').next().unwrap_or("").to_owned())
            }
        };
        match query {
            Some(query) => format!("{scheme}://{host}{path}?{query}"),
            None => format!("{scheme}://{host}{path}"),
        }
    }
}
