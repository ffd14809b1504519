//! Proxies of one mesh tell each other which workload they stand for, by two headers that never leave it.
//! Source: Istio's `peer_metadata` filter.

pub mod config;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response};

use super::{Action as Next, Exchange, FilterRequest, HttpFilter};
use crate::body::ResponseBody;
use crate::observe::workload::{Workload, own};
use crate::route::{Action, ClusterChoice};

const ID: HeaderName = HeaderName::from_static("x-envoy-peer-metadata-id");
const METADATA: HeaderName = HeaderName::from_static("x-envoy-peer-metadata");

/// Which way the headers are read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directions {
    pub discover_downstream: bool,
    pub discover_upstream: bool,
    pub tell_downstream: bool,
    pub tell_upstream: bool,
    /// Services outside the mesh are not told. Source: `IstioHeaders.skip_external_clusters`.
    pub skip_external: bool,
}

pub struct PeerMetadata {
    pub name: String,
    pub directions: Directions,
}

/// The caller's workload, as it said.
pub struct Downstream(pub Rc<Workload>);

/// The called workload, as it said.
pub struct Upstream(pub Rc<Workload>);

impl HttpFilter for PeerMetadata {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Next<'a> {
        let headers = &mut request.head.headers;
        let came = take(headers);
        if let (true, Some(came)) = (self.directions.discover_downstream, came) {
            exchange.put(Downstream(came));
        }
        if self.directions.tell_upstream && !(self.directions.skip_external && is_external(exchange)) {
            tell(headers);
        }
        Next::Continue
    }

    fn on_response<'a>(&'a self, exchange: &'a Exchange, response: &'a mut Response<ResponseBody>) -> Next<'a> {
        let headers = response.headers_mut();
        let came = take(headers);
        if let (true, Some(came)) = (self.directions.discover_upstream, came) {
            exchange.put(Upstream(came));
        }
        // Only who told us is told: others are not of the mesh.
        if self.directions.tell_downstream && exchange.with::<Downstream, _>(|_| ()).is_some() {
            tell(headers);
        }
        Next::Continue
    }
}

/// May the request leave the mesh? So it is where no cluster is known yet, or one makes its hosts from the request.
fn is_external(exchange: &Exchange) -> bool {
    let Some(choice) = exchange.route() else { return true };
    let Action::Forward(action) = &choice.route.action else { return true };
    let outside = |name: &str| exchange.snapshot.cluster(name).is_none_or(|c| c.cluster.makes_hosts());
    match &action.cluster {
        ClusterChoice::Cluster(name) => outside(name),
        ClusterChoice::Weighted(weighted) => weighted.clusters.iter().any(|c| c.header.is_some() || outside(&c.name)),
        ClusterChoice::Header(_) => true,
    }
}

/// Peers that a worker remembers; with more it starts anew.
const REMEMBERED: usize = 256;

thread_local! {
    /// A few peers send many requests: what one says of itself is read once.
    static PEERS: RefCell<HashMap<HeaderValue, Rc<Workload>>> = RefCell::default();
}

fn take(headers: &mut HeaderMap) -> Option<Rc<Workload>> {
    headers.remove(ID);
    let encoded = headers.remove(METADATA)?;
    PEERS.with_borrow_mut(|peers| {
        if let Some(known) = peers.get(&encoded) {
            return Some(known.clone());
        }
        let workload = Rc::new(config::decode(encoded.to_str().ok()?)?);
        if peers.len() >= REMEMBERED {
            peers.clear();
        }
        peers.insert(encoded, workload.clone());
        Some(workload)
    })
}

fn tell(headers: &mut HeaderMap) {
    let own = own();
    if own.encoded.is_empty() {
        return;
    }
    for (name, value) in [(ID, &own.id), (METADATA, &own.encoded)] {
        headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
    }
}
