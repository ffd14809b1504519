//! Who called, as told upstream: x-forwarded-for, x-forwarded-proto, x-envoy-internal,
//! x-envoy-external-address, and which of Envoy's own headers a caller may set.
//! Source: Envoy's `ConnectionManagerUtility::mutateRequestHeaders`.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::net::Address;
use crate::request::RequestHead;

/// A connection manager's rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForwardedRules {
    pub use_remote_address: bool,
    pub trusted_hops: u32,
    pub skip_append: bool,
    pub append_port: bool,
    /// Addresses that count as inside. Envoy's default since 1.34: none.
    pub internal: Vec<IpNet>,
    /// Do Unix sockets count as inside?
    pub internal_unix_sockets: bool,
    /// This host's own address, written in place of a loopback peer.
    pub own_address: Option<IpAddr>,
}

/// What the headers say about the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub remote: Address,
    pub internal: bool,
    /// A request from outside: Envoy's own headers were taken away.
    pub edge: bool,
}

const XFF: HeaderName = HeaderName::from_static("x-forwarded-for");
const XFP: HeaderName = HeaderName::from_static("x-forwarded-proto");
const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// Headers by which an inside caller steers the router; an outside caller's are removed.
const INTERNAL_ONLY: [&str; 15] = [
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-original-url",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-upstream-stream-duration-ms",
];

/// Reads and rewrites the forwarding headers.
pub fn apply(rules: &ForwardedRules, head: &mut RequestHead, peer: &Address, local_port: Option<u16>) -> Caller {
    let had_xff = head.headers.contains_key(&XFF);
    let (remote, single) = if rules.use_remote_address {
        let remote = from_header(&head.headers, rules.trusted_hops.checked_sub(1)).map_or(peer.clone(), as_address);
        let remote = if rules.trusted_hops == 0 { peer.clone() } else { remote };
        if !rules.skip_append {
            append_xff(rules, &mut head.headers, peer);
        }
        (remote, !had_xff)
    } else {
        match from_header(&head.headers, Some(rules.trusted_hops)) {
            Some(ip) => (as_address(ip), count(&head.headers) == 1),
            None => (peer.clone(), false),
        }
    };
    if (rules.use_remote_address && rules.trusted_hops == 0) || !head.headers.contains_key(&XFP) {
        head.headers.insert(XFP, HeaderValue::from_static(head.scheme.as_str()));
    }
    if rules.append_port
        && let Some(port) = local_port
    {
        head.set("x-forwarded-port", &port.to_string());
    }
    let internal = single && is_internal(rules, &remote);
    let envoys = head.has_envoy_headers();
    let edge = !internal && rules.use_remote_address;
    if internal {
        head.headers.insert(INTERNAL, HeaderValue::from_static("true"));
    } else if envoys {
        head.headers.remove(INTERNAL);
    }
    if !internal && envoys {
        for name in INTERNAL_ONLY {
            head.headers.remove(name);
        }
    }
    if edge && envoys {
        head.headers.remove("x-envoy-decorator-operation");
        head.headers.remove("x-envoy-downstream-service-cluster");
        head.headers.remove("x-envoy-downstream-service-node");
    }
    if edge
        && let Some(ip) = remote.ip()
        && let Ok(value) = HeaderValue::from_str(&ip.to_string())
    {
        head.headers.insert(EXTERNAL_ADDRESS, value);
    }
    Caller { remote, internal, edge }
}

fn as_address(ip: IpAddr) -> Address {
    Address::Ip(SocketAddr::new(ip, 0))
}

fn is_internal(rules: &ForwardedRules, address: &Address) -> bool {
    match address {
        Address::Ip(address) => rules.internal.iter().any(|net| net.contains(&address.ip())),
        Address::Pipe(_) => rules.internal_unix_sockets,
    }
}

/// The address `hops` entries before the last one; `None` if there is none there.
fn from_header(headers: &HeaderMap, hops: Option<u32>) -> Option<IpAddr> {
    let all = crate::request::joined(headers, XFF.as_str())?;
    let text = std::str::from_utf8(&all).ok()?;
    let entry = text.rsplit(',').nth(hops? as usize)?.trim();
    entry.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|a| a.ip()))
}

fn count(headers: &HeaderMap) -> usize {
    crate::request::joined(headers, XFF.as_str()).map_or(0, |all| all.split(|b| *b == b',').count())
}

fn append_xff(rules: &ForwardedRules, headers: &mut HeaderMap, peer: &Address) {
    let Some(ip) = peer.ip() else { return };
    let shown = match rules.own_address {
        Some(own) if ip.is_loopback() => own,
        _ => ip,
    };
    let shown = shown.to_string();
    let value = match crate::request::joined(headers, XFF.as_str()) {
        Some(before) => {
            let mut all = before.into_owned();
            all.push(b',');
            all.extend_from_slice(shown.as_bytes());
            all
        }
        None => shown.into_bytes(),
    };
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        headers.insert(XFF, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Scheme;
    use crate::stream::Protocol;

    fn head(headers: &[(&'static str, &str)]) -> RequestHead {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        RequestHead {
            method: http::Method::GET,
            scheme: Scheme::Http,
            authority: None,
            path: None,
            headers: map,
            protocol: Protocol::Http11,
            connect_protocol: None,
        }
    }

    fn check(rules: ForwardedRules, headers: &[(&'static str, &str)], expected: &str) {
        let mut head = head(headers);
        let peer = Address::Ip("127.0.0.1:999".parse().unwrap());
        let caller = apply(&rules, &mut head, &peer, Some(80));
        let get = |name: &str| head.headers.get(name).map_or("-", |v| v.to_str().unwrap()).to_owned();
        let got = format!(
            "{} xff={} proto={} internal={} external={} retry={}",
            caller.remote.ip().unwrap(),
            get("x-forwarded-for"),
            get("x-forwarded-proto"),
            get("x-envoy-internal"),
            get("x-envoy-external-address"),
            get("x-envoy-retry-on"),
        );
        assert_eq!(got, expected, "{rules:?} {headers:?}");
    }

    #[test]
    fn callers() {
        let own = Some("10.0.0.9".parse().unwrap());
        let edge = ForwardedRules { use_remote_address: true, own_address: own, ..Default::default() };
        let hops = ForwardedRules { trusted_hops: 1, ..edge.clone() };
        let inside = ForwardedRules { internal: vec!["127.0.0.0/8".parse().unwrap()], ..edge.clone() };
        let behind = ForwardedRules::default();
        check(edge.clone(), &[], "127.0.0.1 xff=10.0.0.9 proto=http internal=- external=127.0.0.1 retry=-");
        check(
            edge,
            &[("x-forwarded-for", "9.9.9.9, 8.8.8.8"), ("x-forwarded-proto", "https"), ("x-envoy-retry-on", "5xx")],
            "127.0.0.1 xff=9.9.9.9, 8.8.8.8,10.0.0.9 proto=http internal=- external=127.0.0.1 retry=-",
        );
        check(
            hops,
            &[("x-forwarded-for", "9.9.9.9, 10.1.1.1"), ("x-forwarded-proto", "https")],
            "10.1.1.1 xff=9.9.9.9, 10.1.1.1,10.0.0.9 proto=https internal=- external=10.1.1.1 retry=-",
        );
        check(
            inside.clone(),
            &[("x-envoy-retry-on", "5xx")],
            "127.0.0.1 xff=10.0.0.9 proto=http internal=true external=- retry=5xx",
        );
        check(
            inside,
            &[("x-forwarded-for", "9.9.9.9")],
            "127.0.0.1 xff=9.9.9.9,10.0.0.9 proto=http internal=- external=127.0.0.1 retry=-",
        );
        check(
            behind,
            &[("x-forwarded-for", "1.2.3.4"), ("x-envoy-retry-on", "5xx")],
            "1.2.3.4 xff=1.2.3.4 proto=http internal=- external=- retry=-",
        );
    }
}
