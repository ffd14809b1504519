//! A request's head as routes, filters and matchers see it: one form for HTTP/1 and HTTP/2, with the
//! pseudo-headers as fields. Turning it from and into the wire's form is `http::codec`'s work.

use std::borrow::Cow;

use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;

use crate::stream::Protocol;

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub method: Method,
    /// `:scheme`.
    pub scheme: Scheme,
    /// `:authority` or Host; `None` only where the protocol allows it (HTTP/1.0).
    pub authority: Option<HeaderValue>,
    /// `:path`; `None` for CONNECT without one.
    pub path: Option<PathAndQuery>,
    /// All other headers. Host is never among them.
    pub headers: HeaderMap,
    /// The downstream protocol.
    pub protocol: Protocol,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub connect_protocol: Option<HeaderValue>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl RequestHead {
    /// The authority as text; empty if there is none or it isn't text.
    pub fn authority_str(&self) -> &str {
        self.authority.as_ref().and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// Path and query, `/` included; empty for CONNECT.
    pub fn path_and_query(&self) -> &str {
        self.path.as_ref().map_or("", PathAndQuery::as_str)
    }

    /// The path without query; empty for CONNECT.
    pub fn path_only(&self) -> &str {
        self.path.as_ref().map_or("", PathAndQuery::path)
    }

    pub fn query(&self) -> Option<&str> {
        self.path.as_ref().and_then(PathAndQuery::query)
    }

    /// Sets path and query.
    ///
    /// # Errors
    /// The text is no valid request target.
    pub fn set_path(&mut self, path: impl AsRef<[u8]>) -> Result<(), http::uri::InvalidUri> {
        self.path = Some(PathAndQuery::try_from(path.as_ref())?);
        Ok(())
    }

    /// A header by name, pseudo-headers (`:path`, `:authority`, `:method`, `:scheme`, `host`)
    /// included. Several values are joined by commas, as Envoy's matchers see them.
    pub fn header(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        match name {
            ":method" => Some(Cow::Borrowed(self.method.as_str().as_bytes())),
            ":path" => self.path.as_ref().map(|p| Cow::Borrowed(p.as_str().as_bytes())),
            ":scheme" => Some(Cow::Borrowed(self.scheme.as_str().as_bytes())),
            ":protocol" => self.connect_protocol.as_ref().map(|v| Cow::Borrowed(v.as_bytes())),
            ":authority" | "host" => self.authority.as_ref().map(|v| Cow::Borrowed(v.as_bytes())),
            _ => joined(&self.headers, name),
        }
    }

    /// Is this a gRPC request? Source: Envoy's `Grpc::Common::isGrpcRequestHeaders`.
    pub fn is_grpc(&self) -> bool {
        self.path.is_some() && is_grpc_content_type(&self.headers)
    }

    /// Is there one of Envoy's own headers? One look at the names is cheaper than to ask for each of them.
    pub fn has_envoy_headers(&self) -> bool {
        self.headers.keys().any(|name| name.as_str().starts_with("x-envoy-"))
    }

    /// The head, leaving an empty one.
    pub fn take(&mut self) -> RequestHead {
        RequestHead {
            method: std::mem::take(&mut self.method),
            scheme: self.scheme,
            authority: self.authority.take(),
            path: self.path.take(),
            headers: std::mem::take(&mut self.headers),
            protocol: self.protocol,
            connect_protocol: self.connect_protocol.take(),
        }
    }

    /// Sets a header to one value, if name and value are legal.
    pub fn set(&mut self, name: &'static str, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// All values of a header joined by commas; `None` if it is absent.
pub fn joined<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    match values.next() {
        None => Some(Cow::Borrowed(first.as_bytes())),
        Some(second) => {
            let mut all = first.as_bytes().to_vec();
            for value in std::iter::once(second).chain(values) {
                all.push(b',');
                all.extend_from_slice(value.as_bytes());
            }
            Some(Cow::Owned(all))
        }
    }
}

/// `application/grpc`, alone or followed by `+` or `;`.
pub fn is_grpc_content_type(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(http::header::CONTENT_TYPE) else { return false };
    match value.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => rest.is_empty() || rest[0] == b'+' || rest[0] == b';',
        None => false,
    }
}
