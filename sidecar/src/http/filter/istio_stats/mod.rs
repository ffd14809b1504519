//! The mesh's standard metrics: one count and three distributions a request, by who called whom and what
//! came of it. Source: Istio's "Standard metrics".

pub mod config;

use std::cell::RefCell;
use std::fmt::Write;

use super::grpc_stats::Messages;
use super::peer_metadata::{Downstream, Upstream};
use super::{End, Exchange, HttpFilter};
use crate::observe::stats::{Counter, Histogram, labelled_counter, labelled_histogram};
use crate::observe::workload::labels::{SEPARATOR, SIDES, Sides, put, put_raw};
use crate::observe::workload::series::{Known, labels};

pub struct IstioStats {
    pub name: String,
    /// Where a cluster does not say which service was called, the caller does.
    pub host_fallback: bool,
}

/// Handles for one set of labels.
#[derive(Clone)]
struct Series {
    requests: Counter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    /// Of gRPC, both ways; not told apart by what came of a call.
    messages: Option<[Counter; 2]>,
}

thread_local! {
    /// Each worker's handles.
    static SERIES: RefCell<Known<Series>> = RefCell::default();
}

/// The labels' names behind those of [`SIDES`], in the order in which their values are gathered.
const LABELS: [&str; 5] =
    ["request_protocol", "response_code", "grpc_response_status", "response_flags", "connection_security_policy"];

const GRPC: &str = "grpc";

impl HttpFilter for IstioStats {
    fn name(&self) -> &str {
        &self.name
    }

    fn watches_end(&self) -> bool {
        true
    }

    fn on_end(&self, exchange: &Exchange, end: &End<'_>) {
        let write = |key: &mut String, named: bool| self.write_key(key, exchange, end, named);
        let series = SERIES.with_borrow_mut(|known| known.find(write, Series::new));
        let stream = &exchange.stream;
        series.requests.inc();
        series.duration.record(stream.start.elapsed().as_millis() as u64);
        series.request_bytes.record(stream.bytes_received.get());
        series.response_bytes.record(stream.bytes_sent.get());
        if let (Some([requests, responses]), Some(call)) = (&series.messages, exchange.take::<Messages>()) {
            requests.add(call.0.requests.get());
            responses.add(call.0.responses.get());
        }
    }
}

impl Series {
    fn new(key: &str) -> Self {
        let grpc = key.split(SEPARATOR).nth(SIDES.len()) == Some(GRPC);
        let messages = |name| labelled_counter(name, labels(SIDES.iter(), key));
        let all = labels(SIDES.iter().chain(&LABELS), key);
        Series {
            requests: labelled_counter("istio_requests_total", all.clone()),
            duration: labelled_histogram("istio_request_duration_milliseconds", all.clone()),
            request_bytes: labelled_histogram("istio_request_bytes", all.clone()),
            response_bytes: labelled_histogram("istio_response_bytes", all),
            messages: grpc.then(|| ["istio_request_messages_total", "istio_response_messages_total"].map(messages)),
        }
    }
}

impl IstioStats {
    /// Writes the labels' values. Without `named`, what only the other side says of itself is unknown.
    fn write_key(&self, key: &mut String, exchange: &Exchange, end: &End<'_>, named: bool) {
        let stream = &exchange.stream;
        let inbound = exchange.connection_manager.inbound;
        let peer = match inbound {
            true => exchange.with::<Downstream, _>(|peer| peer.0.clone()),
            false => exchange.with::<Upstream, _>(|peer| peer.0.clone()),
        };
        let authority = if self.host_fallback { end.request.authority_str() } else { "" };
        let sides = Sides { stream, inbound, peer: peer.as_deref(), authority, named };
        sides.write(key);
        let grpc = end.request.is_grpc();
        put(key, if grpc { GRPC } else { "http" });
        let _ = write!(key, "{}{SEPARATOR}", stream.response_code.get().unwrap_or(0));
        let status = [end.trailers, end.response].into_iter().flatten().find_map(|h| h.get("grpc-status"));
        put_raw(key, status.filter(|_| grpc).and_then(|v| v.to_str().ok()).unwrap_or(""));
        put(key, &stream.response_flags.get().short());
        put(key, sides.security());
    }
}
