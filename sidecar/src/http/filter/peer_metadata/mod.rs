//! Proxies of one mesh tell each other which workload they stand for, by two headers that never leave it.
//! Source: Istio's `peer_metadata` filter.

pub mod config;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response};

use super::{Action, Exchange, FilterRequest, HttpFilter};
use crate::body::ResponseBody;
use crate::observe::workload::{Workload, own};

const ID: HeaderName = HeaderName::from_static("x-envoy-peer-metadata-id");
const METADATA: HeaderName = HeaderName::from_static("x-envoy-peer-metadata");

/// Which way the headers are read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directions {
    pub discover_downstream: bool,
    pub discover_upstream: bool,
    pub tell_downstream: bool,
    pub tell_upstream: bool,
}

pub struct PeerMetadata {
    pub name: String,
    pub directions: Directions,
}

/// The caller's workload, as it said.
pub struct Downstream(pub Workload);

/// The called workload, as it said.
pub struct Upstream(pub Workload);

impl HttpFilter for PeerMetadata {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        let headers = &mut request.head.headers;
        let came = take(headers);
        if let (true, Some(came)) = (self.directions.discover_downstream, came) {
            exchange.put(Downstream(came));
        }
        if self.directions.tell_upstream {
            tell(headers);
        }
        Action::Continue
    }

    fn on_response<'a>(&'a self, exchange: &'a Exchange, response: &'a mut Response<ResponseBody>) -> Action<'a> {
        let headers = response.headers_mut();
        let came = take(headers);
        if let (true, Some(came)) = (self.directions.discover_upstream, came) {
            exchange.put(Upstream(came));
        }
        // Only who told us is told: others are not of the mesh.
        if self.directions.tell_downstream && exchange.with::<Downstream, _>(|_| ()).is_some() {
            tell(headers);
        }
        Action::Continue
    }
}

fn take(headers: &mut HeaderMap) -> Option<Workload> {
    headers.remove(ID);
    let encoded = headers.remove(METADATA)?;
    config::decode(encoded.to_str().ok()?)
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
