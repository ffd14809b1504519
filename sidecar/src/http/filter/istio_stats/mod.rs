//! The mesh's standard metrics: one count and three distributions a request, by who called whom and what
//! came of it. Source: Istio's "Standard metrics".

pub mod config;

use std::cell::RefCell;
use std::collections::HashMap;

use super::peer_metadata::{Downstream, Upstream};
use super::{End, Exchange, HttpFilter};
use crate::observe::stats::{Counter, Histogram, labelled_counter, labelled_histogram};
use crate::observe::workload::{Workload, own};
use crate::request::RequestHead;
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

thread_local! {
    /// Each worker's handles, so that a set of labels is made into names once.
    static SERIES: RefCell<HashMap<Vec<String>, Series>> = RefCell::default();
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
        let values = label_values(exchange, end);
        let series = SERIES.with_borrow_mut(|all| match all.get(&values) {
            Some(series) => series.clone(),
            None => {
                let series = Series::new(&values);
                all.insert(values, series.clone());
                series
            }
        });
        let stream = &exchange.stream;
        series.requests.inc();
        series.duration.record(stream.start.elapsed().as_millis() as u64);
        series.request_bytes.record(stream.bytes_received.get());
        series.response_bytes.record(stream.bytes_sent.get());
    }
}

impl Series {
    fn new(values: &[String]) -> Self {
        let labels: Vec<(String, String)> =
            LABELS.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Series {
            requests: labelled_counter("istio_requests_total", labels.clone()),
            duration: labelled_histogram("istio_request_duration_milliseconds", labels.clone()),
            request_bytes: labelled_histogram("istio_request_bytes", labels.clone()),
            response_bytes: labelled_histogram("istio_response_bytes", labels),
        }
    }
}

fn label_values(exchange: &Exchange, end: &End<'_>) -> Vec<String> {
    let stream = &exchange.stream;
    let inbound = exchange.connection_manager.inbound;
    let peer = match inbound {
        true => exchange.with::<Downstream, _>(|peer| peer.0.clone()),
        false => exchange.with::<Upstream, _>(|peer| peer.0.clone()).or_else(|| of_endpoint(exchange)),
    };
    let peer = peer.unwrap_or_default();
    let upstream_tls = stream.upstream.tls.borrow();
    let tls = if inbound { stream.connection.tls.as_deref() } else { upstream_tls.as_deref() };
    let (mine, theirs) = principals(tls);
    let secured = tls.is_some_and(|tls| tls.peer.is_some() && tls.local.is_some());
    let cluster = stream.upstream.cluster.borrow();
    let (service, service_name, service_namespace) =
        service(cluster.as_deref().unwrap_or(""), end.request, if inbound { &own().workload } else { &peer });
    let mut values = vec![if inbound { "destination" } else { "source" }.to_owned()];
    let own = &own().workload;
    let (source, destination) = if inbound { ((&peer, theirs), (own, mine)) } else { ((own, mine), (&peer, theirs)) };
    for (workload, principal) in [source, destination] {
        let all = [
            &workload.name,
            &workload.namespace,
            &principal,
            &workload.app,
            &workload.version,
            &workload.app,
            &workload.version,
            &workload.cluster,
        ];
        values.extend(all.map(|v| if v.is_empty() { UNKNOWN.to_owned() } else { v.clone() }));
    }
    let grpc = end.request.is_grpc();
    let status = || {
        let value = end.trailers.and_then(|t| t.get("grpc-status"));
        let value = value.or_else(|| end.response.and_then(|r| r.get("grpc-status")));
        value.and_then(|v| v.to_str().ok()).unwrap_or("").to_owned()
    };
    values.extend([
        service,
        service_name,
        service_namespace,
        if grpc { "grpc" } else { "http" }.to_owned(),
        stream.response_code.get().unwrap_or(0).to_string(),
        if grpc { status() } else { String::new() },
        stream.response_flags.get().short().into_owned(),
        // The caller's side can't know what the called side demanded.
        match (inbound, secured) {
            (false, _) => UNKNOWN,
            (true, true) => "mutual_tls",
            (true, false) => "none",
        }
        .to_owned(),
    ]);
    values
}

fn of_endpoint(exchange: &Exchange) -> Option<Workload> {
    let metadata = exchange.stream.upstream.host_metadata.borrow();
    let text = metadata.as_ref()?.get("istio")?.get("workload")?.as_str()?;
    Some(Workload::of_endpoint(text))
}

/// Our own identity and the peer's, by their certificates.
fn principals(tls: Option<&TlsInfo>) -> (String, String) {
    let uri = |facts: Option<&crate::stream::CertificateFacts>| {
        facts.and_then(|facts| facts.uri_sans.first()).cloned().unwrap_or_default()
    };
    match tls {
        None => (String::new(), String::new()),
        Some(tls) => (uri(tls.local.as_deref()), uri(tls.peer.as_deref())),
    }
}

/// The service that was called: the cluster's, or what the caller named, in the called workload's namespace.
fn service(cluster: &str, request: &RequestHead, called: &Workload) -> (String, String, String) {
    let from_cluster = cluster.strip_prefix("outbound|").and_then(|rest| rest.rsplit('|').next());
    let host = from_cluster.unwrap_or_else(|| crate::route::without_port(request.authority_str()));
    let host = if host.is_empty() { UNKNOWN } else { host };
    if host.parse::<std::net::IpAddr>().is_ok() {
        return (host.to_owned(), host.to_owned(), UNKNOWN.to_owned());
    }
    let mut labels = host.split('.');
    let name = labels.next().unwrap_or(UNKNOWN).to_owned();
    let namespace = match (labels.next(), from_cluster) {
        (Some(namespace), Some(_)) => namespace.to_owned(),
        (namespace, _) if called.namespace.is_empty() => namespace.unwrap_or(UNKNOWN).to_owned(),
        _ => called.namespace.clone(),
    };
    (host.to_owned(), name, namespace)
}
