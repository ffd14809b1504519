//! Gives upstream and callers plain bodies where gzip came. Source: Envoy's `envoy.filters.http.decompressor`.

pub mod config;

use http::Response;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue};
use http_body::Body;

use super::{Action, Exchange, FilterRequest, HttpFilter};
use crate::body::ResponseBody;
use crate::http::gzip::{Coded, Decompress, Passed};
use crate::observe::stats::Counter;

pub struct Decompressor {
    name: String,
    /// The most that a body may grow.
    ratio: u32,
    request: Direction,
    response: Direction,
    /// Upstream is told that it may send gzip.
    advertises: bool,
}

struct Direction {
    enabled: bool,
    /// `no-transform` does not count.
    always: bool,
    decompressed: Counter,
    not_decompressed: Counter,
    passed: Passed,
}

/// The request was a HEAD.
struct Headless;

impl HttpFilter for Decompressor {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        let headers = &mut request.head.headers;
        if self.response.enabled && self.advertises {
            advertise(headers);
        }
        if request.head.method == http::Method::HEAD {
            exchange.put(Headless);
        }
        if !request.body.is_empty() && self.request.begins(headers) {
            let passed = self.request.passed.clone();
            request.body.wrap(|body| Coded::new(body, Decompress::new(self.ratio), passed));
        }
        Action::Continue
    }

    fn on_response<'a>(&'a self, exchange: &'a Exchange, response: &'a mut Response<ResponseBody>) -> Action<'a> {
        let ended = exchange.with(|_: &Headless| ()).is_some() || response.body().is_end_stream();
        if !ended && self.response.begins(response.headers_mut()) {
            let passed = self.response.passed.clone();
            response.body_mut().wrap(|body| Coded::new(body, Decompress::new(self.ratio), passed));
        }
        Action::Continue
    }
}

fn advertise(headers: &mut HeaderMap) {
    let before = crate::request::joined(headers, ACCEPT_ENCODING.as_str()).map(|value| value.into_owned());
    let all = match before {
        Some(before) => [&before[..], b",gzip"].concat(),
        None => b"gzip".to_vec(),
    };
    if let Ok(all) = HeaderValue::from_bytes(&all) {
        headers.insert(ACCEPT_ENCODING, all);
    }
}

impl Direction {
    /// Changes the headers of a body that is to be decompressed, and counts it.
    fn begins(&self, headers: &mut HeaderMap) -> bool {
        let text = |name: &str| crate::request::joined(headers, name).map(|v| String::from_utf8_lossy(&v).into_owned());
        let kept = text(CACHE_CONTROL.as_str()).is_some_and(|value| value.contains("no-transform")) && !self.always;
        let codings = text(CONTENT_ENCODING.as_str()).unwrap_or_default();
        let rest = inner(&codings).filter(|_| self.enabled && !kept);
        let Some(rest) = rest else {
            self.not_decompressed.inc();
            return false;
        };
        self.decompressed.inc();
        headers.remove(CONTENT_LENGTH);
        headers.remove(CONTENT_ENCODING);
        if let (false, Ok(rest)) = (rest.is_empty(), HeaderValue::from_str(rest)) {
            headers.insert(CONTENT_ENCODING, rest);
        }
        true
    }
}

/// The codings that are left when gzip, which stands first, is undone. `None`: it does not stand there.
fn inner(codings: &str) -> Option<&str> {
    let (first, rest) = codings.split_once(',').unwrap_or((codings, ""));
    first.trim().eq_ignore_ascii_case("gzip").then_some(rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings() {
        for (codings, expected) in [
            ("gzip", Some("")),
            (" GZip ", Some("")),
            ("gzip, br", Some("br")),
            ("br, gzip", None),
            ("gzipped", None),
            ("", None),
        ] {
            assert_eq!(inner(codings), expected, "{codings}");
        }
    }

    #[test]
    fn what_upstream_may_send() {
        let mut headers = HeaderMap::new();
        advertise(&mut headers);
        assert_eq!(headers[ACCEPT_ENCODING], "gzip");
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("br"));
        advertise(&mut headers);
        assert_eq!(headers[ACCEPT_ENCODING], "br,gzip");
    }
}
