//! One request on its way through the tower stack, and what the stack's layers share about it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::body::{Progress, RequestBody};
use crate::cluster::Host;
use crate::request::RequestHead;
use crate::stream::{Metadata, Stream};

use super::LocalCluster;
use super::alpn::Override;

/// What a layer is called with.
pub struct Call {
    pub head: RequestHead,
    pub body: RequestBody,
    pub facts: Rc<Facts>,
}

impl Call {
    /// The same call for another try, if its body can be sent again.
    pub fn again(&self) -> Option<Call> {
        let body = self.body.again()?;
        Some(Call { head: self.head.clone(), body, facts: self.facts.clone() })
    }
}

/// What is fixed or learnt about a request while the stack works on it.
pub struct Facts {
    pub stream: Rc<Stream>,
    pub progress: Rc<Progress>,
    pub cluster: Rc<LocalCluster>,
    pub started: Instant,
    /// The whole request's time limit, as it stands after all headers had their say.
    pub timeout: Option<Duration>,
    /// One try's.
    pub per_try_timeout: Option<Duration>,
    /// A try from which nothing comes for so long is given up.
    pub per_try_idle_timeout: Option<Duration>,
    /// A try that takes too long goes on beside the next one.
    pub hedge: bool,
    /// The chosen host's name becomes the authority; true: the old one is kept in `x-forwarded-host`.
    pub chosen_host: Option<bool>,
    /// Ask upstream for `x-envoy-attempt-count`.
    pub count_attempts: bool,
    /// Tell upstream how long it may take (`x-envoy-expected-rq-timeout-ms`).
    pub announce_timeout: bool,
    /// For consistent hashing.
    pub hash: Option<u64>,
    /// High-priority circuit breaker thresholds.
    pub high_priority: bool,
    /// Hosts that a retry should not choose again.
    pub tried: RefCell<Vec<Arc<Host>>>,
    /// How often another host may be drawn instead of a tried one; 0: tried hosts may come again.
    pub reselections: u32,
    /// Which of the cluster's hosts the route wants.
    pub subset: Option<Arc<Metadata>>,
    /// What its connections offer to speak, where that is not their TLS context's own list.
    pub alpn: Option<Arc<Override>>,
    /// A retry goes to a priority that was not tried, while there is one.
    pub avoid_priorities: bool,
    pub tried_priorities: RefCell<Vec<u32>>,
    /// Held while the request counts as active upstream; dropped when its response ends.
    pub permit: RefCell<Option<super::pool::Permit>>,
}

impl Facts {
    /// Of a request of our own, that nobody waits to send the rest of: only its time is limited.
    pub fn of(stream: Rc<Stream>, cluster: Rc<LocalCluster>, timeout: Option<Duration>) -> Facts {
        Facts {
            stream,
            progress: Progress::completed(),
            cluster,
            started: Instant::now(),
            timeout,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            hedge: false,
            chosen_host: None,
            count_attempts: false,
            announce_timeout: true,
            hash: None,
            high_priority: false,
            tried: RefCell::default(),
            reselections: 0,
            subset: None,
            alpn: None,
            avoid_priorities: false,
            tried_priorities: RefCell::default(),
            permit: RefCell::default(),
        }
    }

    /// The same for a request that goes out beside this one: nothing of it is kept or hashed.
    pub fn plain(&self) -> Facts {
        Facts {
            progress: self.progress.clone(),
            started: self.started,
            count_attempts: self.count_attempts,
            announce_timeout: self.announce_timeout,
            high_priority: self.high_priority,
            subset: self.subset.clone(),
            alpn: self.alpn.clone(),
            ..Facts::of(self.stream.clone(), self.cluster.clone(), self.timeout)
        }
    }
}
