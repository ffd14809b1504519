//! Compresses responses for callers that take gzip, and requests where that is wished.
//! Source: Envoy's `envoy.filters.http.compressor`. Each filter decides for itself: it does not look for others in the chain.

mod accept;
pub mod config;

use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue,
    TRANSFER_ENCODING, VARY,
};
use http::{Method, Response};
use http_body::Body;

use super::{Action, Exchange, FilterRequest, HttpFilter};
use crate::body::ResponseBody;
use crate::http::gzip::{Coded, Compress, Passed};
use crate::http::upgrade;
use crate::matcher::StringMatcher;
use crate::observe::stats::Counter;
use accept::{Choice, choose};

const GZIP: HeaderValue = HeaderValue::from_static("gzip");

pub struct Compressor {
    name: String,
    level: u32,
    /// `None`: requests are left as they are.
    request: Option<Direction>,
    response: Direction,
    /// Responses with an ETag are left as they are.
    leaves_etag: bool,
    /// A strong ETag becomes a weak one, instead of being taken away.
    weakens_etag: bool,
    hides_accept: bool,
    /// Their responses are left as they are.
    codes: Vec<u16>,
    request_stats: Stats,
    response_stats: Stats,
    header_stats: HeaderStats,
}

/// What is compressed of one direction.
struct Direction {
    enabled: bool,
    least: u64,
    types: Vec<StringMatcher>,
}

struct Stats {
    compressed: Counter,
    not_compressed: Counter,
    too_small: Counter,
    etag: Counter,
    passed: Passed,
}

/// What callers say of encodings.
struct HeaderStats {
    none: Counter,
    identity: Counter,
    used: Counter,
    wildcard: Counter,
    not_valid: Counter,
}

/// A route's word on whether upstream sees what the caller accepts.
pub struct HidesAccept(pub bool);

/// What the caller itself said; other filters of this kind see the same.
#[derive(Clone)]
struct Asked {
    accept: Option<HeaderValue>,
    head: bool,
}

impl HttpFilter for Compressor {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        let head = &mut request.head;
        if exchange.with(|_: &Asked| ()).is_none() {
            let accept = crate::request::joined(&head.headers, ACCEPT_ENCODING.as_str());
            let accept = accept.and_then(|value| HeaderValue::from_bytes(&value).ok());
            exchange.put(Asked { accept, head: head.method == Method::HEAD });
        }
        let hides = exchange.route_config::<HidesAccept>(&self.name).map_or(self.hides_accept, |route| route.0);
        if hides {
            head.headers.remove(ACCEPT_ENCODING);
        }
        if request.body.is_empty() || upgrade::requested(head).is_some() || !self.compresses_request(&head.headers) {
            self.request_stats.not_compressed.inc();
            return Action::Continue;
        }
        self.request_stats.compressed.inc();
        encoded(&mut head.headers);
        let passed = self.request_stats.passed.clone();
        request.body.wrap(|body| Coded::new(body, Compress::new(self.level), passed));
        Action::Continue
    }

    fn on_response<'a>(&'a self, exchange: &'a Exchange, response: &'a mut Response<ResponseBody>) -> Action<'a> {
        let Some(asked) = exchange.with(Asked::clone) else { return Action::Continue };
        let big = self.response.enabled && self.response.is_large(&self.response_stats, response.headers());
        let may = big && self.may_compress(response);
        let ended = asked.head || response.body().is_end_stream();
        let wanted = !ended && big && self.wanted(&asked, response.headers());
        if may {
            vary(response.headers_mut());
        }
        if !(wanted && may) {
            self.response_stats.not_compressed.inc();
            return Action::Continue;
        }
        self.response_stats.compressed.inc();
        self.mend_etag(response.headers_mut());
        encoded(response.headers_mut());
        let passed = self.response_stats.passed.clone();
        response.body_mut().wrap(|body| Coded::new(body, Compress::new(self.level), passed));
        Action::Continue
    }
}

fn encoded(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_ENCODING, GZIP);
}

fn text(headers: &HeaderMap, name: &str) -> String {
    crate::request::joined(headers, name)
        .map(|value| String::from_utf8_lossy(&value).to_ascii_lowercase())
        .unwrap_or_default()
}

impl Direction {
    /// A body of unknown length counts as large.
    fn is_large(&self, stats: &Stats, headers: &HeaderMap) -> bool {
        let Some(length) = headers.get(CONTENT_LENGTH) else { return true };
        let large = length.to_str().ok().and_then(|text| text.parse::<u64>().ok()).is_some_and(|n| n >= self.least);
        if !large {
            stats.too_small.inc();
        }
        large
    }

    fn takes(&self, headers: &HeaderMap) -> bool {
        let kind = text(headers, CONTENT_TYPE.as_str());
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.is_empty() || self.types.iter().any(|matcher| matcher.matches(kind))
    }
}

/// Nobody has coded it yet.
fn is_plain(headers: &HeaderMap) -> bool {
    let transfer = text(headers, TRANSFER_ENCODING.as_str());
    let coded = ["gzip", "deflate", "compress"].iter().any(|coding| transfer.contains(coding));
    !headers.contains_key(CONTENT_ENCODING) && !coded
}

impl Compressor {
    fn compresses_request(&self, headers: &HeaderMap) -> bool {
        let direction = self.request.as_ref().filter(|direction| direction.enabled);
        direction.is_some_and(|direction| {
            direction.is_large(&self.request_stats, headers) && direction.takes(headers) && is_plain(headers)
        })
    }

    /// May the response be compressed, whatever the caller takes?
    fn may_compress(&self, response: &Response<ResponseBody>) -> bool {
        let headers = response.headers();
        let etag = !(self.leaves_etag && headers.contains_key(ETAG));
        if !etag {
            self.response_stats.etag.inc();
        }
        etag && response.status() != http::StatusCode::SWITCHING_PROTOCOLS
            && !self.codes.contains(&response.status().as_u16())
            && !text(headers, CACHE_CONTROL.as_str()).contains("no-transform")
            && self.response.takes(headers)
            && is_plain(headers)
    }

    /// Does the caller want gzip?
    fn wanted(&self, asked: &Asked, headers: &HeaderMap) -> bool {
        let stats = &self.header_stats;
        let Some(accept) = &asked.accept else {
            stats.none.inc();
            return false;
        };
        let accept = String::from_utf8_lossy(accept.as_bytes());
        let (counter, wanted) = match choose(&accept, self.response.takes(headers)) {
            Choice::Gzip => (&stats.used, true),
            Choice::Any => (&stats.wildcard, true),
            Choice::Identity => (&stats.identity, false),
            Choice::None => (&stats.not_valid, false),
        };
        counter.inc();
        wanted
    }

    /// A strong ETag is of bytes that the caller does not get.
    fn mend_etag(&self, headers: &mut HeaderMap) {
        let Some(etag) = headers.get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/")) else { return };
        let weak = HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat());
        headers.remove(ETAG);
        headers.extend(weak.ok().filter(|_| self.weakens_etag).map(|weak| (ETAG, weak)));
    }
}

/// Caches must know that other callers get another body.
fn vary(headers: &mut HeaderMap) {
    let before = crate::request::joined(headers, VARY.as_str()).map(|v| String::from_utf8_lossy(&v).into_owned());
    let value = match before {
        Some(before) if before.contains("Accept-Encoding") => return,
        Some(before) => format!("{before}, Accept-Encoding"),
        None => "Accept-Encoding".to_owned(),
    };
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(VARY, value);
    }
}
