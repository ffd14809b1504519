//! The mesh's standard metrics: one count and three distributions a request, by who called whom and what
//! came of it. Source: Istio's "Standard metrics".

pub mod config;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::rc::Rc;

use super::peer_metadata::{Downstream, Upstream};
use super::{End, Exchange, HttpFilter};
use crate::observe::stats::{Counter, Histogram, labelled_counter, labelled_histogram};
use crate::observe::workload::{Workload, own};
use crate::stream::TlsInfo;

pub struct IstioStats {
    pub name: String,
}

/// Handles for one set of labels.
#[derive(Clone)]
struct Series {
    requests: Counter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

/// Sets of labels of one worker. Callers name themselves and the host they want, so the number must end
/// somewhere: what comes later is counted without those names.
const MOST: usize = 1024;

/// Stands between two labels' values; it is in none of them.
const SEPARATOR: char = '\u{1}';

thread_local! {
    /// Each worker's handles, so that a set of labels is made into names once.
    static SERIES: RefCell<Known> = RefCell::default();
}

#[derive(Default)]
struct Known {
    series: HashMap<String, Series, foldhash::fast::RandomState>,
    /// The labels' values of the request at hand; kept for its memory.
    key: String,
}

const UNKNOWN: &str = "unknown";

/// The labels' names, in the order in which their values are gathered.
const LABELS: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_canonical_service",
    "source_canonical_revision",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_cluster",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

impl HttpFilter for IstioStats {
    fn name(&self) -> &str {
        &self.name
    }

    fn watches_end(&self) -> bool {
        true
    }

    fn on_end(&self, exchange: &Exchange, end: &End<'_>) {
        let series = SERIES.with_borrow_mut(|known| known.find(exchange, end));
        let stream = &exchange.stream;
        series.requests.inc();
        series.duration.record(stream.start.elapsed().as_millis() as u64);
        series.request_bytes.record(stream.bytes_received.get());
        series.response_bytes.record(stream.bytes_sent.get());
    }
}

impl Known {
    fn find(&mut self, exchange: &Exchange, end: &End<'_>) -> Series {
        write_key(&mut self.key, exchange, end, true);
        if let Some(series) = self.series.get(&self.key) {
            return series.clone();
        }
        if self.series.len() >= MOST {
            write_key(&mut self.key, exchange, end, false);
        }
        self.series.entry(self.key.clone()).or_insert_with_key(|key| Series::new(key)).clone()
    }
}

impl Series {
    fn new(key: &str) -> Self {
        let values = key.split(SEPARATOR);
        let labels: Vec<(String, String)> =
            LABELS.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect();
        Series {
            requests: labelled_counter("istio_requests_total", labels.clone()),
            duration: labelled_histogram("istio_request_duration_milliseconds", labels.clone()),
            request_bytes: labelled_histogram("istio_request_bytes", labels.clone()),
            response_bytes: labelled_histogram("istio_response_bytes", labels),
        }
    }
}

/// Writes the labels' values. Without `named`, what only the other side says of itself is unknown.
fn write_key(key: &mut String, exchange: &Exchange, end: &End<'_>, named: bool) {
    let stream = &exchange.stream;
    let inbound = exchange.connection_manager.inbound;
    let peer = match inbound {
        _ if !named => None,
        true => exchange.with::<Downstream, _>(|peer| peer.0.clone()),
        false => exchange.with::<Upstream, _>(|peer| peer.0.clone()).or_else(|| of_endpoint(exchange).map(Rc::new)),
    };
    let peer = peer.unwrap_or_default();
    let upstream_tls = stream.upstream.tls.borrow();
    let tls = if inbound { stream.connection.tls.as_deref() } else { upstream_tls.as_deref() };
    let (mine, theirs) = principals(tls);
    let secured = tls.is_some_and(|tls| tls.peer.is_some() && tls.local.is_some());
    let own = &own().workload;
    key.clear();
    put(key, if inbound { "destination" } else { "source" });
    let ((source, from), (destination, to)) =
        if inbound { ((&*peer, theirs), (own, mine)) } else { ((own, mine), (&*peer, theirs)) };
    put_workload(key, source, from);
    put_workload(key, destination, to);
    let cluster = stream.upstream.cluster.borrow();
    let authority = if named { end.request.authority_str() } else { "" };
    put_service(key, cluster.as_deref().unwrap_or(""), authority, destination);
    let grpc = end.request.is_grpc();
    put(key, if grpc { "grpc" } else { "http" });
    let _ = write!(key, "{}{SEPARATOR}", stream.response_code.get().unwrap_or(0));
    let status = [end.trailers, end.response].into_iter().flatten().find_map(|h| h.get("grpc-status"));
    put_raw(key, status.filter(|_| grpc).and_then(|v| v.to_str().ok()).unwrap_or(""));
    put(key, &stream.response_flags.get().short());
    // The caller's side can't know what the called side demanded.
    put(
        key,
        if !inbound {
            UNKNOWN
        } else if secured {
            "mutual_tls"
        } else {
            "none"
        },
    );
}

/// One more value; nothing known is `unknown`, as no label may be empty: Prometheus would drop it.
fn put(key: &mut String, value: &str) {
    put_raw(key, if value.is_empty() { UNKNOWN } else { value });
}

/// Characters of one value.
const LONGEST: usize = 512;

fn put_raw(key: &mut String, value: &str) {
    key.extend(value.chars().filter(|c| !c.is_control()).take(LONGEST));
    key.push(SEPARATOR);
}

fn put_workload(key: &mut String, workload: &Workload, principal: &str) {
    let first_revision = if workload.name.is_empty() { "" } else { "latest" };
    for value in [&workload.name, &workload.namespace, principal, &workload.app, &workload.version] {
        put(key, value);
    }
    put(key, if workload.app.is_empty() { &workload.name } else { &workload.app });
    put(key, if workload.version.is_empty() { first_revision } else { &workload.version });
    put(key, &workload.cluster);
}

fn of_endpoint(exchange: &Exchange) -> Option<Workload> {
    let metadata = exchange.stream.upstream.host_metadata.borrow();
    let text = metadata.as_ref()?.get("istio")?.get("workload")?.as_str()?;
    Some(Workload::of_endpoint(text))
}

/// Our own identity and the peer's, by their certificates.
fn principals(tls: Option<&TlsInfo>) -> (&str, &str) {
    let Some(tls) = tls else { return ("", "") };
    let local = tls.local.as_deref().and_then(|facts| facts.uri_sans.first());
    let peer = tls.peer.as_deref().and_then(|facts| facts.uri_sans.first());
    (local.map_or("", String::as_str), peer.map_or("", String::as_str))
}

/// The service that was called, its name and its namespace: the cluster's, or what the caller named, in the called
/// workload's namespace.
fn put_service(key: &mut String, cluster: &str, authority: &str, called: &Workload) {
    let from_cluster = cluster.strip_prefix("outbound|").and_then(|rest| rest.rsplit('|').next());
    let host = from_cluster.unwrap_or_else(|| crate::route::without_port(authority));
    let mut labels = host.split('.');
    let name = labels.next().unwrap_or("");
    let (name, namespace) = match (labels.next(), from_cluster) {
        _ if host.parse::<std::net::IpAddr>().is_ok() => (host, ""),
        (Some(namespace), Some(_)) => (name, namespace),
        (namespace, _) if called.namespace.is_empty() => (name, namespace.unwrap_or("")),
        _ => (name, called.namespace.as_str()),
    };
    [host, name, namespace].into_iter().for_each(|value| put(key, value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cluster: &str, authority: &str, namespace: &str, expected: [&str; 3]) {
        let mut key = String::new();
        let called = Workload { namespace: namespace.to_owned(), ..Workload::default() };
        put_service(&mut key, cluster, authority, &called);
        let got: Vec<&str> = key.split_terminator(SEPARATOR).collect();
        assert_eq!(got, expected, "{cluster} {authority}");
    }

    #[test]
    fn services() {
        let full = "reviews.shop.svc.cluster.local";
        check(&format!("outbound|9080||{full}"), "other", "ops", [full, "reviews", "shop"]);
        check("inbound|9080||", "reviews:9080", "shop", ["reviews", "reviews", "shop"]);
        check("PassthroughCluster", "10.0.0.1:80", "", ["10.0.0.1", "10.0.0.1", "unknown"]);
        check("inbound|9080||", "", "", ["unknown", "unknown", "unknown"]);
        check("inbound|9080||", "a\u{1}b", "shop", ["ab", "ab", "shop"]);
    }

    #[test]
    fn a_known_workload_has_a_canonical_name_and_revision() {
        let mut key = String::new();
        put_workload(&mut key, &Workload { name: "web".to_owned(), ..Workload::default() }, "");
        put_workload(&mut key, &Workload::default(), "");
        let got: Vec<&str> = key.split_terminator(SEPARATOR).collect();
        let u = UNKNOWN;
        assert_eq!(got, ["web", u, u, u, u, "web", "latest", u, u, u, u, u, u, u, u, u]);
    }
}
