//! `x-forwarded-client-cert`: what callers' certificates say, told to those further up.
//! Source: Envoy's `ConnectionManagerUtility::mutateXfccRequestHeader`.

use std::fmt::Write;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::stream::{CertificateFacts, TlsInfo};

pub const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Source: `HttpConnectionManager.forward_client_cert_details`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forward {
    /// Never sent on.
    #[default]
    Sanitize,
    /// Sent on as it came, if the caller has a certificate.
    ForwardOnly,
    /// The caller's certificate is added to what came.
    AppendForward,
    /// The caller's certificate takes the place of what came.
    SanitizeSet,
    /// Sent on as it came, from anybody.
    AlwaysForwardOnly,
}

/// Source: `set_current_client_cert_details`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Details {
    pub subject: bool,
    pub cert: bool,
    pub chain: bool,
    pub uri: bool,
    pub dns: bool,
}

/// A connection manager's rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XfccRules {
    pub forward: Forward,
    pub details: Details,
}

/// Rewrites the header.
pub fn apply(rules: &XfccRules, headers: &mut HeaderMap, tls: Option<&TlsInfo>) {
    let peer = tls.and_then(|tls| tls.peer.as_deref());
    match (rules.forward, tls, peer) {
        (Forward::AlwaysForwardOnly, ..) | (Forward::ForwardOnly, _, Some(_)) => {}
        (Forward::SanitizeSet, Some(tls), Some(peer)) => {
            headers.remove(XFCC);
            set(headers, &element(rules.details, tls, peer));
        }
        (Forward::AppendForward, Some(tls), Some(peer)) => {
            let mine = element(rules.details, tls, peer);
            let before =
                crate::request::joined(headers, XFCC.as_str()).map(|v| String::from_utf8_lossy(&v).into_owned());
            match before {
                Some(before) if mine.is_empty() => set(headers, &before),
                Some(before) => set(headers, &format!("{before},{mine}")),
                None => set(headers, &mine),
            }
        }
        _ => {
            headers.remove(XFCC);
        }
    }
}

fn set(headers: &mut HeaderMap, value: &str) {
    if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(value)) {
        headers.insert(XFCC, value);
    }
}

fn element(details: Details, tls: &TlsInfo, peer: &CertificateFacts) -> String {
    let mut text = String::new();
    let mut add = |key: &str, value: &str, quoted: bool| {
        let quote = if quoted { "\"" } else { "" };
        let separator = if text.is_empty() { "" } else { ";" };
        // Writing to a String can't fail.
        let _ = write!(text, "{separator}{key}={quote}{value}{quote}");
    };
    for uri in tls.local.iter().flat_map(|local| &local.uri_sans) {
        add("By", uri, false);
    }
    add("Hash", &peer.sha256, false);
    if details.subject {
        add("Subject", &peer.subject, true);
    }
    if details.cert {
        add("Cert", peer.url_encoded_pem(), true);
    }
    if details.chain {
        add("Chain", peer.url_encoded_chain(), true);
    }
    if details.uri {
        peer.uri_sans.iter().for_each(|uri| add("URI", uri, false));
    }
    if details.dns {
        peer.dns_sans.iter().for_each(|name| add("DNS", name, false));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn check(forward: Forward, with_peer: bool, came: Option<&str>, expected: Option<&str>) {
        let facts = |uri: &str| CertificateFacts {
            sha256: "ab".to_owned(),
            subject: "CN=a".to_owned(),
            uri_sans: vec![uri.to_owned()],
            ..CertificateFacts::default()
        };
        let tls = TlsInfo {
            peer: with_peer.then(|| Arc::new(facts("spiffe://peer"))),
            local: Some(Arc::new(facts("spiffe://me"))),
            ..TlsInfo::default()
        };
        let mut headers = HeaderMap::new();
        headers.extend(came.map(|v| (XFCC, HeaderValue::from_str(v).unwrap())));
        let details = Details { subject: true, uri: true, ..Details::default() };
        apply(&XfccRules { forward, details }, &mut headers, Some(&tls));
        let got = headers.get(XFCC).map(|v| v.to_str().unwrap());
        assert_eq!(got, expected, "{forward:?} {with_peer} {came:?}");
    }

    #[test]
    fn what_goes_on() {
        const MINE: &str = "By=spiffe://me;Hash=ab;Subject=\"CN=a\";URI=spiffe://peer";
        check(Forward::Sanitize, true, Some("x"), None);
        check(Forward::ForwardOnly, true, Some("x"), Some("x"));
        check(Forward::ForwardOnly, false, Some("x"), None);
        check(Forward::SanitizeSet, true, Some("x"), Some(MINE));
        check(Forward::SanitizeSet, false, Some("x"), None);
        check(Forward::AppendForward, true, Some("x"), Some(&format!("x,{MINE}")));
        check(Forward::AppendForward, true, None, Some(MINE));
        check(Forward::AlwaysForwardOnly, false, Some("x"), Some("x"));
    }
}
