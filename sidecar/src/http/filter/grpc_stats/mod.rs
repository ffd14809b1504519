//! Counts gRPC's calls, by what came of them, and their messages while they pass, by cluster or by method.
//! Source: Envoy's `envoy.filters.http.grpc_stats`.

pub mod config;
mod frames;

use std::cell::Cell;
use std::collections::HashSet;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};

use super::{Action, End, Exchange, FilterRequest, HttpFilter};
use crate::body::{BodyError, BodyFrame, Observe, RequestBody, ResponseBody};
use crate::cluster::stats::{GrpcCalls, Method};
use crate::observe::stats::Counter;
use crate::stream::Stream;
use crate::worker::LocalSnapshot;
use frames::Frames;

pub struct GrpcStats {
    name: String,
    methods: Methods,
    /// Tell other filters, and logs, of the messages.
    emit_filter_state: bool,
    /// Record how long upstream took.
    upstream_time: bool,
}

/// Which methods are counted apart from their cluster's other calls.
#[derive(Debug)]
enum Methods {
    None,
    All,
    Listed(HashSet<Method>),
}

impl Methods {
    fn apart(&self, path: &str) -> Option<Method> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let found = (service.to_owned(), method.to_owned());
        let apart = match self {
            Methods::None => false,
            Methods::All => !service.is_empty() && !method.is_empty() && !method.contains('/'),
            Methods::Listed(listed) => listed.contains(&found),
        };
        apart.then_some(found)
    }
}

/// What logs show of a call's messages, by this name. Source: `envoy.extensions.filters.http.grpc_stats.v3.FilterObject`.
const SHOWN: &str = "envoy.filters.http.grpc_stats";

/// The messages of one call, for other filters.
pub struct Messages(pub Rc<Call>);

/// What has passed of one call.
pub struct Call {
    stream: Rc<Stream>,
    snapshot: Rc<LocalSnapshot>,
    method: Option<Method>,
    pub requests: Cell<u64>,
    pub responses: Cell<u64>,
    /// As many of them as its cluster's counters were told of.
    charged: Cell<[u64; 2]>,
}

/// What belongs to a call from its beginning to its end.
struct Begun(Rc<Call>);

impl HttpFilter for GrpcStats {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        if !request.head.is_grpc() {
            return Action::Continue;
        }
        let call = Rc::new(Call {
            stream: exchange.stream.clone(),
            snapshot: exchange.snapshot.clone(),
            method: self.methods.apart(request.head.path_only()),
            requests: Cell::default(),
            responses: Cell::default(),
            charged: Cell::default(),
        });
        if !request.body.is_empty() {
            request.body.wrap(|body| Sent { body, call: call.clone(), frames: Frames::default() });
        }
        if self.emit_filter_state {
            exchange.put(Messages(call.clone()));
        }
        exchange.put(Begun(call));
        Action::Continue
    }

    fn on_response<'a>(&'a self, exchange: &'a Exchange, response: &'a mut Response<ResponseBody>) -> Action<'a> {
        if let Some(call) = exchange.with(|begun: &Begun| begun.0.clone()) {
            response.body_mut().observe(Received { call, frames: Frames::default() });
        }
        Action::Continue
    }

    fn watches_end(&self) -> bool {
        true
    }

    fn on_end(&self, exchange: &Exchange, end: &End<'_>) {
        let Some(Begun(call)) = exchange.take::<Begun>() else { return };
        call.charge();
        if self.emit_filter_state {
            exchange.stream.filter_state.borrow_mut().insert(SHOWN.to_owned(), call.shown());
        }
        call.with_calls(|calls| {
            if let Some(status) = [end.trailers, end.response].into_iter().flatten().find_map(status) {
                calls.count(status);
            }
            let upstream = &call.stream.upstream;
            if let (true, Some(sent), Some(received)) =
                (self.upstream_time, upstream.first_byte_sent.get(), upstream.first_byte_received.get())
            {
                calls.upstream_time.record(received.saturating_duration_since(sent).as_millis() as u64);
            }
        });
    }
}

/// `None`: not there; a status that is no number is none of gRPC's.
fn status(headers: &HeaderMap) -> Option<u16> {
    let value = headers.get("grpc-status")?;
    Some(value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(u16::MAX))
}

impl Call {
    fn with_calls(&self, then: impl FnOnce(&GrpcCalls)) {
        let name = self.stream.upstream.cluster.borrow().clone();
        if let Some(cluster) = name.and_then(|name| self.snapshot.cluster(&name).cloned()) {
            let stats = cluster.stats();
            then(&self.method.as_ref().map_or_else(|| stats.grpc(), |method| stats.grpc_method(method)));
        }
    }

    /// As protobuf's JSON: 64-bit numbers are texts, and zeros are left out.
    fn shown(&self) -> String {
        let counts = [("requestMessageCount", self.requests.get()), ("responseMessageCount", self.responses.get())];
        let some = counts.into_iter().filter(|(_, count)| *count > 0);
        serde_json::Value::Object(some.map(|(k, n)| (k.to_owned(), n.to_string().into())).collect()).to_string()
    }

    /// Tells the cluster's counters what is new, once a cluster was chosen.
    fn charge(&self) {
        self.with_calls(|calls| {
            let now = [self.requests.get(), self.responses.get()];
            let before = self.charged.replace(now);
            let add = |counter: &Counter, i: usize| counter.add(now[i] - before[i]);
            add(&calls.request_messages, 0);
            add(&calls.response_messages, 1);
        });
    }

    fn passed(&self, count: &Cell<u64>, frames: &mut Frames, frame: &Frame<Bytes>) {
        let begun = frame.data_ref().map_or(0, |data| frames.begun(data));
        if begun > 0 {
            count.set(count.get() + begun);
            self.charge();
        }
    }
}

/// The request's body.
struct Sent {
    body: RequestBody,
    call: Rc<Call>,
    frames: Frames,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BodyFrame>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let this = &mut *self;
        if let Some(Ok(frame)) = &polled {
            this.call.passed(&this.call.requests, &mut this.frames, frame);
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The response's body.
struct Received {
    call: Rc<Call>,
    frames: Frames,
}

impl Observe for Received {
    fn frame(&mut self, frame: &mut Frame<Bytes>) -> Result<(), BodyError> {
        self.call.passed(&self.call.responses, &mut self.frames, frame);
        Ok(())
    }

    fn end(&mut self, _: Result<(), &BodyError>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods() {
        let listed = || Methods::Listed(HashSet::from([("shop.Cart".to_owned(), "Add".to_owned())]));
        for (methods, path, apart) in [
            (Methods::None, "/shop.Cart/Add", false),
            (Methods::All, "/shop.Cart/Add", true),
            (Methods::All, "/shop.Cart/", false),
            (Methods::All, "/shop.Cart/Add/0", false),
            (Methods::All, "", false),
            (listed(), "/shop.Cart/Add", true),
            (listed(), "/shop.Cart/Drop", false),
        ] {
            assert_eq!(methods.apart(path).is_some(), apart, "{methods:?} {path}");
        }
    }
}
