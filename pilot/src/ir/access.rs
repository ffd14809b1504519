//! Who may call at one port.

use api::routing::RequestMatch;

/// What is allowed of HTTP requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HttpAccess {
    /// Everything.
    Open,
    /// What any of these allows, and nothing else.
    Only(Vec<HttpRule>),
}

impl HttpAccess {
    /// Whether paths take part in the decision.
    #[must_use]
    pub fn by_path(&self) -> bool {
        match self {
            Self::Open => false,
            Self::Only(rules) => {
                rules.iter().any(|rule| rule.requests.iter().flatten().any(|request| request.path.is_some()))
            }
        }
    }
}

/// What one grant allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpRule {
    /// Unique at its port; shown in logs.
    pub name: String,
    /// SPIFFE ids of those who may.
    pub callers: Vec<String>,
    /// The requests that any of these accepts; `None`: every request.
    pub requests: Option<Vec<RequestMatch>>,
}

/// What is allowed of connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TcpAccess {
    /// Everything.
    Open,
    /// Connections of these: a name, shown in logs, with SPIFFE ids.
    Only(Vec<(String, Vec<String>)>),
}
