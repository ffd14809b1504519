//! Between hyper's messages and ours: HTTP/1 and HTTP/2 heads become one [`RequestHead`], and go
//! back into the form that the upstream connection speaks. Refuses heads that are ambiguous.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, Request, Version};

use crate::body::RequestBody;
use crate::request::{RequestHead, Scheme};
use crate::stream::Protocol;

/// Why a head is refused before any filter sees it; the words are Envoy's response code details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    MissingHost,
    RepeatedHost,
    BadHost,
    BadPath,
    BadConnect,
}

impl BadHead {
    pub fn details(self) -> &'static str {
        match self {
            BadHead::MissingHost => "missing_host_header",
            BadHead::RepeatedHost => "http1.duplicate_host",
            BadHead::BadHost => "invalid_authority",
            BadHead::BadPath => "http.invalid_path",
            BadHead::BadConnect => "http1.connect_not_supported",
        }
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

pub fn protocol_of(version: Version) -> Protocol {
    match version {
        Version::HTTP_2 => Protocol::Http2,
        Version::HTTP_10 | Version::HTTP_09 => Protocol::Http10,
        _ => Protocol::Http11,
    }
}

/// Reads a request's head. `tls` says whether the connection was encrypted.
///
/// # Errors
/// The head is ambiguous or incomplete.
pub fn read_head(parts: http::request::Parts, tls: bool) -> Result<RequestHead, BadHead> {
    let http::request::Parts { method, uri, version, mut headers, extensions, .. } = parts;
    let protocol = protocol_of(version);
    let uri = uri.into_parts();
    let authority = match uri.authority {
        // The target wins over Host (RFC 9112, 3.2.2).
        Some(authority) => {
            headers.remove(header::HOST);
            Some(HeaderValue::from_str(authority.as_str()).map_err(|_| BadHead::BadHost)?)
        }
        None => take_host(&mut headers)?,
    };
    if authority.is_none() && protocol == Protocol::Http11 {
        return Err(BadHead::MissingHost);
    }
    let path = match uri.path_and_query {
        None if method == Method::CONNECT => None,
        None => return Err(BadHead::BadPath),
        Some(path) if method == Method::CONNECT && path.as_str() == "/" && uri.scheme.is_none() => None,
        Some(path) if path.as_str().starts_with('/') || path.as_str() == "*" => Some(path),
        // An absolute form that ends with its authority, with or without a query.
        Some(path) if path.as_str().is_empty() => Some(PathAndQuery::from_static("/")),
        Some(path) if path.as_str().starts_with('?') => {
            Some(PathAndQuery::try_from(format!("/{path}")).map_err(|_| BadHead::BadPath)?)
        }
        Some(_) => return Err(BadHead::BadPath),
    };
    let connect_protocol =
        extensions.get::<hyper::ext::Protocol>().and_then(|protocol| HeaderValue::from_str(protocol.as_str()).ok());
    let scheme = if tls { Scheme::Https } else { Scheme::Http };
    Ok(RequestHead { method, scheme, authority, path, headers, protocol, connect_protocol })
}

fn take_host(headers: &mut HeaderMap) -> Result<Option<HeaderValue>, BadHead> {
    match headers.entry(header::HOST) {
        header::Entry::Vacant(_) => Ok(None),
        header::Entry::Occupied(entry) => {
            let mut values = entry.remove_entry_mult().1;
            let first = values.next();
            if values.next().is_some() {
                return Err(BadHead::RepeatedHost);
            }
            match first {
                Some(host) if host.is_empty() => Ok(Some(host)),
                Some(host) if Authority::try_from(host.as_bytes()).is_ok() => Ok(Some(host)),
                Some(_) => Err(BadHead::BadHost),
                None => Ok(None),
            }
        }
    }
}

/// Envoy's words for a status, where they differ from the usual ones. Source: `CodeUtility::toString`.
pub fn reason(status: u16) -> Option<&'static str> {
    match status {
        203 => Some("Non-Authoritative Information"),
        418 | 451 => Some("Unknown"),
        599 => Some("Last Unassigned Server Error Code"),
        _ => match http::StatusCode::from_u16(status).ok()?.canonical_reason() {
            Some(_) => None,
            None => Some("Unknown"),
        },
    }
}

/// Does an HTTP/1 request want its connection to become something else?
pub fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|kind| !kind.as_bytes().starts_with(b"h2c"))
        && connection_says(headers, "upgrade")
}

/// Is the word among `Connection`'s?
pub fn connection_says(headers: &HeaderMap, word: &str) -> bool {
    let says = |v: &HeaderValue| {
        v.as_bytes().split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    headers.get_all(header::CONNECTION).iter().any(says)
}

/// Removes what belongs to one connection only, and all that `Connection` names (RFC 9110, 7.6.1).
/// `keep_upgrade` leaves `Connection` and `Upgrade` as they are. `TE` survives only as `trailers`.
pub fn remove_hop_by_hop(headers: &mut HeaderMap, keep_upgrade: bool) {
    let connection = headers.remove(header::CONNECTION);
    let upgrade = headers.remove(header::UPGRADE);
    if let Some(connection) = &connection {
        for name in connection.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if !name.eq_ignore_ascii_case(b"te")
                && !name.eq_ignore_ascii_case(b"close")
                && let Ok(name) = HeaderName::from_bytes(name)
            {
                headers.remove(name);
            }
        }
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    if let Some(te) = headers.remove(header::TE) {
        let trailers = te.as_bytes().split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers"));
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
    if keep_upgrade {
        headers.extend(connection.map(|v| (header::CONNECTION, v)));
        headers.extend(upgrade.map(|v| (header::UPGRADE, v)));
    }
}

/// Makes the message for an upstream connection of the given protocol.
///
/// # Errors
/// Authority or path can't be written in that protocol; the caller answers with a local reply.
pub fn upstream_request(
    head: RequestHead,
    body: RequestBody,
    http2: bool,
) -> Result<Request<RequestBody>, http::Error> {
    let mut head = head;
    if http2 {
        super::upgrade::to_extended_connect(&mut head);
    }
    let RequestHead { method, scheme, authority, path, headers, connect_protocol, .. } = head;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    if http2 {
        *request.version_mut() = Version::HTTP_2;
        let mut uri = http::uri::Parts::default();
        if let Some(authority) = &authority {
            uri.authority = Some(Authority::try_from(authority.as_bytes())?);
        }
        if path.is_some() {
            uri.scheme = Some(match scheme {
                Scheme::Http => http::uri::Scheme::HTTP,
                Scheme::Https => http::uri::Scheme::HTTPS,
            });
        }
        uri.path_and_query = path;
        *request.uri_mut() = Uri::from_parts(uri)?;
        if let Some(protocol) = connect_protocol.as_ref().and_then(|p| p.to_str().ok()) {
            request.extensions_mut().insert(hyper::ext::Protocol::from(protocol));
        }
    } else {
        *request.version_mut() = Version::HTTP_11;
        // Methods that may have a body say that they have none.
        let bodiless = [Method::GET, Method::HEAD, Method::DELETE, Method::CONNECT, Method::TRACE];
        if request.body().is_empty()
            && !bodiless.contains(request.method())
            && !request.headers().contains_key(header::TRANSFER_ENCODING)
        {
            request.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
        }
        match path {
            Some(path) => *request.uri_mut() = Uri::from(path),
            None => {
                let authority = authority.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
                *request.uri_mut() = Uri::from(Authority::try_from(authority)?);
            }
        }
        if let Some(authority) = authority {
            request.headers_mut().insert(header::HOST, authority);
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: http::request::Builder, expected: Result<(&str, &str), BadHead>) {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let shown = format!("{parts:?}");
        let got = read_head(parts, false);
        let got = got.as_ref().map(|h| (h.authority_str(), h.path_and_query())).map_err(|e| *e);
        assert_eq!(got, expected, "{shown}");
    }

    #[test]
    fn heads() {
        let get = |uri: &str| Request::get(uri);
        check(get("/a?b").header("host", "x"), Ok(("x", "/a?b")));
        check(get("/a"), Err(BadHead::MissingHost));
        check(get("/a").header("host", "x").header("host", "y"), Err(BadHead::RepeatedHost));
        check(get("/a").header("host", "x y"), Err(BadHead::BadHost));
        check(get("http://target/a").header("host", "x"), Ok(("target", "/a")));
        check(get("http://target").header("host", "x"), Ok(("target", "/")));
        check(get("/a").version(Version::HTTP_10), Ok(("", "/a")));
        check(Request::options("*").header("host", "x"), Ok(("x", "*")));
    }

    #[test]
    fn connection_headers_stay_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "x-private, te, upgrade"),
            ("x-private", "1"),
            ("te", "gzip, trailers"),
            ("upgrade", "websocket"),
            ("keep-alive", "timeout=1"),
            ("x-public", "2"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut plain = headers.clone();
        remove_hop_by_hop(&mut plain, false);
        let names: Vec<_> = plain.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        assert_eq!(names.len(), 2);
        assert!(names.contains(&"te: trailers".to_owned()) && names.contains(&"x-public: 2".to_owned()));
        remove_hop_by_hop(&mut headers, true);
        assert_eq!(headers.get("upgrade").unwrap(), "websocket");
        assert_eq!(headers.get("connection").unwrap(), "x-private, te, upgrade");
    }
}
