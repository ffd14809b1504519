//! Workload identity as a SPIFFE id.
//!
//! Source: the SPIFFE ID specification, sections 2.1 to 2.4; the path shape is Istio's.

use std::fmt;
use std::str::FromStr;

/// `spiffe://TRUSTDOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT`
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    pub trust_domain: String,
    pub namespace: String,
    pub service_account: String,
}

impl SpiffeId {
    pub fn new(
        trust_domain: impl Into<String>,
        namespace: impl Into<String>,
        service_account: impl Into<String>,
    ) -> Self {
        Self { trust_domain: trust_domain.into(), namespace: namespace.into(), service_account: service_account.into() }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

/// Why a text is no workload identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpiffeId {
    #[error("{0:?} is longer than 2048 bytes")]
    TooLong(String),
    #[error("{0:?} does not begin with spiffe://")]
    Scheme(String),
    #[error("{0:?} has the trust domain {1:?}; a trust domain is made of a-z, 0-9, '.', '-' and '_', 1 to 255 of them")]
    TrustDomain(String, String),
    #[error("{0:?} is not of the form spiffe://TRUSTDOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT")]
    Path(String),
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > 2048 {
            return Err(InvalidSpiffeId::TooLong(text.chars().take(64).collect()));
        }
        let rest = strip_scheme(text).ok_or_else(|| InvalidSpiffeId::Scheme(text.to_owned()))?;
        let (trust_domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !is_trust_domain(trust_domain) {
            return Err(InvalidSpiffeId::TrustDomain(text.to_owned(), trust_domain.to_owned()));
        }
        let segments: Vec<&str> = path.split('/').collect();
        match segments.as_slice() {
            ["ns", namespace, "sa", account] if is_segment(namespace) && is_segment(account) => {
                Ok(Self::new(trust_domain, *namespace, *account))
            }
            _ => Err(InvalidSpiffeId::Path(text.to_owned())),
        }
    }
}

/// The scheme is compared without regard to case (section 2); the rest is not.
fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    scheme.eq_ignore_ascii_case("spiffe").then_some(rest)
}

/// Whether `name` can be a trust domain: no port, no user information, lower case.
pub fn is_trust_domain(name: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    (1..=255).contains(&name.len()) && name.bytes().all(allowed)
}

/// Section 2.2: letters, digits, `.`, `-` and `_`, and neither `.` nor `..` alone.
fn is_segment(segment: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, &str, &str)>) {
        let expected = expected.map(|(domain, namespace, account)| SpiffeId::new(domain, namespace, account));
        assert_eq!(text.parse::<SpiffeId>().ok(), expected, "{text}");
    }

    #[test]
    fn strict_and_round() {
        check("spiffe://cluster.local/ns/shop/sa/web", Some(("cluster.local", "shop", "web")));
        check("SPIFFE://a/ns/b/sa/C.d_e", Some(("a", "b", "C.d_e")));
        for bad in [
            "",
            "https://a/ns/b/sa/c",
            "spiffe:///ns/b/sa/c",
            "spiffe://A/ns/b/sa/c",
            "spiffe://a:8443/ns/b/sa/c",
            "spiffe://u@a/ns/b/sa/c",
            "spiffe://a",
            "spiffe://a/",
            "spiffe://a/ns/b",
            "spiffe://a/ns/b/sa/",
            "spiffe://a/ns/b/sa/c/",
            "spiffe://a/ns/b/sa/c/d",
            "spiffe://a/ns//sa/c",
            "spiffe://a/ns/../sa/c",
            "spiffe://a/ns/b/sa/c?x=1",
            "spiffe://a/ns/b/sa/c#f",
            "spiffe://a/ns/b/sa/%63",
            "spiffe://a/sa/b/ns/c",
            "spiffe://a/ns/b/sa/c ",
        ] {
            check(bad, None);
        }
        let id = SpiffeId::new("cluster.local", "shop", "web");
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
