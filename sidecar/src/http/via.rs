//! The `via` header of requests and responses.

use http::HeaderMap;
use http::header::{HeaderValue, VIA};

/// All proxies on the way, in one header.
pub fn append(headers: &mut HeaderMap, via: &HeaderValue) {
    let before = crate::request::joined(headers, VIA.as_str());
    let all = before.map(|before| [before.as_ref(), b", ", via.as_bytes()].concat());
    let all = all.and_then(|all| HeaderValue::from_bytes(&all).ok());
    headers.insert(VIA, all.unwrap_or_else(|| via.clone()));
}
