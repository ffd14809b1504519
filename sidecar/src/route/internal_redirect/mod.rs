//! Redirects of upstream that are followed here instead of by the caller: which, and where to.
//! Source: `InternalRedirectPolicy`, Envoy's `Filter::convertRequestHeadersForInternalRedirect`.

pub mod config;

use http::header::{HeaderName, HeaderValue, LOCATION};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, Method};

use crate::request::{RequestHead, Scheme};

/// Which upstream redirects are followed here instead of by the caller. Source: `InternalRedirectPolicy`.
pub struct InternalRedirects {
    /// 1 by default.
    pub max: u32,
    /// 302 by default.
    pub codes: Vec<u16>,
    pub across_schemes: bool,
    /// From https never to http. Source: `SafeCrossSchemeConfig`.
    pub safe_schemes_only: bool,
    /// A route is not taken twice. Source: `PreviousRoutesConfig`.
    pub new_routes_only: bool,
    /// Only these routes, by name. Source: `AllowListedRoutesConfig`.
    pub allowed: Option<Vec<String>>,
    pub copy_headers: Vec<HeaderName>,
}

impl Default for InternalRedirects {
    fn default() -> Self {
        InternalRedirects {
            max: 1,
            codes: vec![302],
            across_schemes: false,
            safe_schemes_only: false,
            new_routes_only: false,
            allowed: None,
            copy_headers: Vec::new(),
        }
    }
}

/// Why a redirect goes to the caller after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    BadLocation,
    UnsafeScheme,
}

const ORIGINAL_URL: HeaderName = HeaderName::from_static("x-envoy-original-url");

impl InternalRedirects {
    pub fn covers(&self, status: u16) -> bool {
        self.codes.contains(&status)
    }

    /// Turns the request into the one that the response asks for. `from` is how the request was before its route
    /// changed it. A 303 makes it a GET without a body.
    ///
    /// # Errors
    /// The Location is none, or leads to a scheme that the policy forbids.
    pub fn redirected(&self, from: &RequestHead, status: u16, response: &HeaderMap) -> Result<RequestHead, Refused> {
        let location = response.get(LOCATION).and_then(|v| v.to_str().ok()).ok_or(Refused::BadLocation)?;
        let uri: Uri = location.parse().map_err(|_| Refused::BadLocation)?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(_) => return Err(Refused::BadLocation),
            None => from.scheme,
        };
        let crossed = scheme != from.scheme;
        if crossed && (!self.across_schemes || self.safe_schemes_only && scheme == Scheme::Https) {
            return Err(Refused::UnsafeScheme);
        }
        let mut head = from.clone();
        let original = format!("{}://{}{}", from.scheme.as_str(), from.authority_str(), from.path_and_query());
        if let Ok(original) = HeaderValue::from_str(&original) {
            head.headers.insert(ORIGINAL_URL, original);
        }
        if let Some(authority) = uri.authority() {
            head.authority = HeaderValue::from_str(authority.as_str()).ok();
        }
        head.scheme = scheme;
        head.path = Some(uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
        for name in &self.copy_headers {
            head.headers.remove(name);
            for value in response.get_all(name) {
                head.headers.append(name.clone(), value.clone());
            }
        }
        if status == 303 && head.method != Method::GET && head.method != Method::HEAD {
            head.method = Method::GET;
            head.headers.remove(http::header::CONTENT_LENGTH);
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Protocol;

    fn check(policy: &InternalRedirects, status: u16, location: &str, expected: Result<(&str, &str, &str), Refused>) {
        let from = RequestHead {
            method: Method::POST,
            scheme: Scheme::Http,
            authority: Some(HeaderValue::from_static("a.test")),
            path: Some(PathAndQuery::from_static("/x?y=1")),
            headers: HeaderMap::new(),
            protocol: Protocol::Http11,
            connect_protocol: None,
        };
        let mut response = HeaderMap::new();
        response.insert(LOCATION, HeaderValue::from_str(location).unwrap());
        let head = policy.redirected(&from, status, &response);
        let got = head.as_ref().map(|h| (h.method.as_str(), h.authority_str(), h.path_and_query())).map_err(|e| *e);
        assert_eq!(got, expected, "{location}");
        if let Ok(head) = &head {
            assert_eq!(head.headers[ORIGINAL_URL], "http://a.test/x?y=1");
        }
    }

    #[test]
    fn locations() {
        let policy = InternalRedirects::default();
        check(&policy, 302, "http://b.test/z", Ok(("POST", "b.test", "/z")));
        check(&policy, 302, "/z?q", Ok(("POST", "a.test", "/z?q")));
        check(&policy, 303, "/z", Ok(("GET", "a.test", "/z")));
        check(&policy, 302, "https://b.test/z", Err(Refused::UnsafeScheme));
        check(&policy, 302, "ftp://b.test/z", Err(Refused::BadLocation));
        let across = InternalRedirects { across_schemes: true, ..policy };
        check(&across, 302, "https://b.test/z", Ok(("POST", "b.test", "/z")));
    }
}
