//! The xDS client: asks for resources, hands them on as they come, and sends the verdict back.
//!
//! What a resource means, and whether it is good, is decided by `assemble`. The protocol's rules are
//! in two state machines without I/O, [`sotw`] and [`delta`]; [`stream`] runs one of them over gRPC and
//! keeps it connected; [`files`] watches a file instead.

pub mod delta;
pub mod files;
pub mod identity;
pub mod resource;
pub mod sotw;
pub mod stream;

use std::collections::BTreeSet;
use std::time::Duration;

use envoy_types::pb::google::protobuf::Any;
use tokio::sync::{mpsc, oneshot};

/// Which resources of a type are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// All there are (listeners and clusters).
    Wildcard,
    Names(BTreeSet<String>),
}

impl Interest {
    pub fn names<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Interest::Names(names.into_iter().map(Into::into).collect())
    }
}

/// One resource as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    pub name: String,
    pub version: String,
    pub resource: Any,
    /// The resource is gone when this has passed without a renewal.
    pub ttl: Option<Duration>,
}

/// What one response changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub type_url: String,
    pub version: String,
    /// All resources of the type: what is not here no longer exists.
    pub full: bool,
    pub resources: Vec<Fetched>,
    pub removed: Vec<String>,
}

/// `Err` says why the response is refused (`error_detail`).
pub type Verdict = Result<(), String>;

/// What a subscription tells its owner.
pub enum Event {
    /// A response; the stream waits for the verdict before it goes on.
    Change(Change, oneshot::Sender<Verdict>),
    /// The stream is open, or was lost.
    Connected(bool),
    /// A response could not be read at all, or a file is broken.
    Failed { type_url: String, why: String },
}

/// Where events go. `source` tells several subscriptions apart.
#[derive(Clone)]
pub struct Events {
    pub source: usize,
    pub sender: mpsc::UnboundedSender<(usize, Event)>,
}

impl Events {
    fn send(&self, event: Event) {
        let _ = self.sender.send((self.source, event));
    }

    /// Hands a change on and waits for the verdict.
    async fn judge(&self, change: Change) -> Verdict {
        let (sender, verdict) = oneshot::channel();
        self.send(Event::Change(change, sender));
        verdict.await.unwrap_or_else(|_| Err("shutting down".to_owned()))
    }
}
