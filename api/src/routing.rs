//! What is to become of calls to a Service's port, in neutral words: SMI splits and Gateway API routes are both translated
//! into these, and the pilot's mesh model knows only these.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::duration::GoDuration;
use crate::meta::{Key, ObjectRef};
use crate::scalar::{HttpStatus, Percent};
use crate::traffic_policy::Retry;

/// What callers of one port of a Service meet, in place of its own endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortRouting {
    /// The object that says so.
    pub source: ObjectRef,
    /// The Service that callers name.
    pub service: Key,
    /// Its port.
    pub port: u16,
    /// Only callers of this namespace are meant; absent: all. A routing for some comes before one for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callers: Option<String>,
    /// The first rule that accepts a request decides. On a TCP port only rules that accept everything count.
    pub rules: Vec<RouteRule>,
    /// What requests meet that no rule accepts.
    pub otherwise: Otherwise,
}

/// What requests meet that no rule accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Otherwise {
    /// The Service's own endpoints (SMI).
    OwnEndpoints,
    /// 404 (Gateway API).
    NotFound,
}

/// Where some requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRule {
    /// For the route's name; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A request is accepted if any of these accepts it. None at all: no request is.
    pub matches: Vec<RequestMatch>,
    /// Where they go, by weight. Empty, and no redirect: 500.
    pub backends: Vec<Backend>,
    /// The weight beside theirs that is answered with 500, because its backend cannot be resolved (Gateway API).
    #[serde(skip_serializing_if = "is_zero")]
    pub unresolved: u32,
    /// What else happens to them.
    #[serde(skip_serializing_if = "Actions::is_empty")]
    pub actions: Actions,
}

impl RouteRule {
    /// Whether it accepts every request, and every connection.
    #[must_use]
    pub fn accepts_all(&self) -> bool {
        self.matches.iter().any(RequestMatch::accepts_all)
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A Service's port that gets a share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// The Service; its own endpoints are meant, whatever is said of calls to it.
    pub service: Key,
    /// Its port.
    pub port: u16,
    /// Relative to the others of the rule, at least 1; all together at most `u32::MAX`.
    pub weight: u32,
    /// What happens to the requests that go here.
    #[serde(skip_serializing_if = "Actions::is_empty")]
    pub actions: Actions,
}

/// What a request must be. All conditions must hold; without any, every request is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestMatch {
    /// Its path, normalised and without the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Its method is one of these; empty: any.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub methods: BTreeSet<String>,
    /// Its headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// Its query parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<QueryMatch>,
}

impl RequestMatch {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn accepts_all(&self) -> bool {
        self.path.is_none() && self.methods.is_empty() && self.headers.is_empty() && self.query.is_empty()
    }
}

/// What a path must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// Exactly this.
    Exact(String),
    /// This, or this and a `/` and more; `/` is everything. No trailing `/` otherwise. Envoy's `path_separated_prefix`.
    Prefix(String),
    /// Wholly matched by this regular expression, in RE2's syntax.
    Regex(String),
}

/// What a text must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TextMatch {
    /// Exactly this.
    Exact(String),
    /// Wholly matched by this regular expression, in RE2's syntax.
    Regex(String),
}

/// What a header must be. A request without the header is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// In lower case; `:authority` for the host.
    pub name: String,
    /// Its value.
    pub value: TextMatch,
}

/// What a query parameter must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryMatch {
    /// The parameter.
    pub name: String,
    /// Its value.
    pub value: TextMatch,
}

/// What happens to a request besides being sent on. SMI asks for none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Actions {
    /// Changes of the request's headers.
    #[serde(skip_serializing_if = "HeaderChanges::is_empty")]
    pub request_headers: HeaderChanges,
    /// Changes of the response's headers.
    #[serde(skip_serializing_if = "HeaderChanges::is_empty")]
    pub response_headers: HeaderChanges,
    /// The answer, in place of a backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// What the backend sees as host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite_host: Option<String>,
    /// What the backend sees as path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite_path: Option<PathRewrite>,
    /// Where copies go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<MirrorTo>,
    /// The whole request; zero: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// One try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<GoDuration>,
    /// In place of the policy's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

impl Actions {
    /// Whether nothing happens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Changes of headers, in this order: set, add, remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderChanges {
    /// Overwritten or added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(String, String)>,
    /// Added beside what is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(String, String)>,
    /// Taken away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl HeaderChanges {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

/// A redirecting answer; what is absent stays as in the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Another host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Another port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Another path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// 301, 302, 303, 307 or 308.
    pub status: HttpStatus,
}

/// How a path is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathRewrite {
    /// All of it.
    Full(String),
    /// The matched prefix of it.
    Prefix(String),
}

/// Where copies go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorTo {
    /// The Service.
    pub service: Key,
    /// Its port.
    pub port: u16,
    /// The share that is copied.
    pub percent: Percent,
}
