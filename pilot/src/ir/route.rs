//! What a proxy does with requests.

use api::GoDuration;
use api::routing::{Actions, RequestMatch};
use api::traffic_policy::{Fault, HashOn, RateLimit, Retry};

use super::{HttpAccess, Weighted};

/// A route table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteTable {
    /// What listeners name it.
    pub name: String,
    /// The first whose domain fits best decides.
    pub hosts: Vec<VirtualHost>,
    /// Whether spans of these requests are those of a server.
    pub inbound: bool,
}

/// The routes of some hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VirtualHost {
    /// Unique in its table.
    pub name: String,
    /// Hosts, with and without port; unique in the table.
    pub domains: Vec<String>,
    /// The first that accepts a request decides.
    pub routes: Vec<Route>,
    /// Who may do what.
    pub access: HttpAccess,
    /// How many requests are taken.
    pub rate_limit: Option<RateLimit>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Shown in logs.
    pub name: String,
    /// All of these must accept a request; none: every request is accepted.
    pub conditions: Vec<RequestMatch>,
    /// What becomes of it.
    pub action: Action,
    /// What happens to it on the way.
    pub actions: Actions,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is sent on.
    Forward(Box<Forward>),
    /// It is answered here, with this status and body.
    Answer(u16, &'static str),
    /// It is answered with 400 if its path holds an escaped slash; later routes decide otherwise.
    RefuseEscapedSlash,
    /// `actions.redirect` is the answer.
    Redirect,
}

/// Where and how a request is sent on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Forward {
    /// Where, by weight; never empty.
    pub clusters: Vec<(Weighted, Actions)>,
    /// The whole request; absent: none.
    pub timeout: Option<GoDuration>,
    /// With no byte in either direction; absent: Envoy's default.
    pub idle_timeout: Option<GoDuration>,
    /// Retries; absent: none.
    pub retry: Option<Retry>,
    /// Faults to inject.
    pub fault: Fault,
    /// Clusters that get copies, with parts per million.
    pub mirrors: Vec<(String, u32)>,
    /// What decides the host under a hashing policy.
    pub hash_on: Vec<HashOn>,
}
