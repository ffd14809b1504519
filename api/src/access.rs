//! Who may call whom, in neutral words: what SMI's TrafficTargets are translated into.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::meta::{Key, ObjectRef};
use crate::routing::RequestMatch;

/// What one object allows at a service account's workloads. Grants add up; there is no denying one.
///
/// A grant that allows nothing (a missing reference, a bad regular expression) still names its destination, which is then
/// closed by default in the mode `auto`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Grant {
    /// The object that says so.
    pub source: ObjectRef,
    /// The service account that is called.
    pub destination: Key,
    /// The service accounts that may call; empty: none.
    pub callers: BTreeSet<Key>,
    /// At which ports of the workload.
    pub ports: Ports,
    /// Which requests.
    pub requests: Requests,
}

impl Grant {
    /// Whether it allows nothing to anybody.
    #[must_use]
    pub fn allows_nothing(&self) -> bool {
        let no_ports = matches!(&self.ports, Ports::Only(ports) if ports.is_empty());
        let no_requests = matches!(&self.requests, Requests::Matching(matches) if matches.is_empty());
        self.callers.is_empty() || no_ports || no_requests
    }
}

/// Ports of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ports {
    /// All of them.
    All,
    /// These; none if empty.
    Only(BTreeSet<u16>),
}

impl Ports {
    /// Whether `port` is one.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Only(ports) => ports.contains(&port),
        }
    }
}

/// What may be sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Requests {
    /// Whole connections, and so every request on them.
    Any,
    /// HTTP requests that any of these accepts; none if empty. No connection that is not HTTP.
    Matching(Vec<RequestMatch>),
}
