//! Role-based access control: who may do what. Pure: one decision from a request and its connection.
//! Source: `envoy.config.rbac.v3.RBAC`. No rules at all allow everything; rules without policies allow
//! nothing (ALLOW) or everything (DENY).

pub mod config;

use ipnet::IpNet;
use regex::Regex;

use crate::matcher::{HeaderMatcher, MetadataMatcher, StringMatcher};
use crate::net::Address;
use crate::request::RequestHead;
use crate::stream::{CertificateFacts, Metadata, Stream};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
    /// Only notes what matches.
    Log,
}

/// Compiled rules.
pub struct Rbac {
    pub action: Action,
    /// By name, in order.
    policies: Vec<(String, Policy)>,
}

struct Policy {
    permission: Rule,
    principal: Rule,
}

/// A condition on the request or on the caller.
enum Rule {
    Any,
    All(Vec<Rule>),
    Either(Vec<Rule>),
    Not(Box<Rule>),
    Header(HeaderMatcher),
    Path(StringMatcher),
    /// A path template's regex.
    Template(Regex),
    DestinationIp(IpNet),
    /// From the first up to, not including, the second.
    DestinationPort(u32, u32),
    ServerName(StringMatcher),
    /// `None`: any certificate that was checked.
    Authenticated(Option<StringMatcher>),
    Metadata(MetadataMatcher),
    RouteMetadata(MetadataMatcher),
    /// The socket's peer.
    DirectIp(IpNet),
    /// The caller as trusted, from x-forwarded-for or the connection.
    RemoteIp(IpNet),
}

/// What was decided, and by which policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    pub allowed: bool,
    /// The policy that matched.
    pub policy: Option<&'a str>,
}

/// What is judged. Without a head only the connection's facts can match.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub stream: &'a Stream,
    pub head: Option<&'a RequestHead>,
}

impl Rbac {
    pub fn decide(&self, subject: Subject<'_>) -> Decision<'_> {
        let matched = self.policies.iter().find(|(_, p)| p.permission.matches(subject) && p.principal.matches(subject));
        let allowed = match self.action {
            Action::Allow => matched.is_some(),
            Action::Deny => matched.is_none(),
            Action::Log => true,
        };
        Decision { allowed, policy: matched.map(|(name, _)| name.as_str()) }
    }
}

impl Rule {
    fn matches(&self, subject: Subject<'_>) -> bool {
        let connection = &subject.stream.connection;
        match self {
            Rule::Any => true,
            Rule::All(rules) => rules.iter().all(|r| r.matches(subject)),
            Rule::Either(rules) => rules.iter().any(|r| r.matches(subject)),
            Rule::Not(rule) => !rule.matches(subject),
            Rule::Header(matcher) => subject.head.is_some_and(|head| matcher.matches_any(head)),
            Rule::Path(matcher) => subject.head.is_some_and(|head| matcher.matches(head.path_only())),
            Rule::Template(regex) => subject.head.is_some_and(|head| regex.is_match(head.path_only())),
            Rule::DestinationIp(net) => contains(net, &connection.local),
            Rule::DestinationPort(low, high) => {
                connection.local.socket().is_some_and(|a| (*low..*high).contains(&u32::from(a.port())))
            }
            Rule::ServerName(matcher) => matcher.matches(connection.sni()),
            Rule::Authenticated(matcher) => authenticated(subject, matcher.as_ref()),
            Rule::Metadata(matcher) => matcher.matches(&subject.stream.dynamic_metadata.borrow()),
            Rule::RouteMetadata(matcher) => {
                let metadata = subject.stream.route_metadata.borrow();
                metadata.as_deref().map_or_else(|| matcher.matches(&Metadata::new()), |all| matcher.matches(all))
            }
            Rule::DirectIp(net) => contains(net, &connection.direct_remote),
            Rule::RemoteIp(net) => contains(net, &subject.stream.remote.borrow()),
        }
    }
}

fn contains(net: &IpNet, address: &Address) -> bool {
    address.ip().is_some_and(|ip| net.contains(&ip))
}

/// Names are tried in Envoy's order: URI SANs, DNS SANs, then the subject.
fn authenticated(subject: Subject<'_>, matcher: Option<&StringMatcher>) -> bool {
    let tls = subject.stream.connection.tls.as_ref().filter(|tls| tls.peer_validated);
    let Some(peer) = tls.and_then(|tls| tls.peer.as_deref()) else { return false };
    matcher.is_none_or(|matcher| names(peer).iter().any(|name| matcher.matches(name)))
}

fn names(peer: &CertificateFacts) -> Vec<&str> {
    let sans = if peer.uri_sans.is_empty() { &peer.dns_sans } else { &peer.uri_sans };
    match sans.is_empty() {
        true => vec![peer.subject.as_str()],
        false => sans.iter().map(String::as_str).collect(),
    }
}

#[cfg(test)]
mod tests;
