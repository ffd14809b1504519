//! One proxy's metrics page → what it has counted, as far as the mesh's standard metrics tell. Source: Istio's standard metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context;
use api::Key;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use smi_adapter::metrics::{Direction, Figures, Flow};
use tokio::net::TcpStream;

/// More than any page has.
const LARGEST: usize = 32 << 20;
const REQUESTS: &str = "istio_requests_total{";
const DURATION: &str = "istio_request_duration_milliseconds_bucket{";

/// Asks a proxy.
///
/// # Errors
/// When it does not answer.
pub(super) async fn read(pod: &Key, at: SocketAddr) -> anyhow::Result<BTreeMap<Flow, Figures>> {
    let stream = TcpStream::connect(at).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/stats/prometheus").header("host", at.to_string()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    connection.abort();
    let body = body.map_err(|error| anyhow::anyhow!("{error}")).context("the page")?.to_bytes();
    Ok(counted(pod, &String::from_utf8_lossy(&body)))
}

fn counted(pod: &Key, text: &str) -> BTreeMap<Flow, Figures> {
    let mut found: BTreeMap<Flow, Figures> = BTreeMap::new();
    for line in text.lines() {
        let (rest, requests) = match (line.strip_prefix(REQUESTS), line.strip_prefix(DURATION)) {
            (Some(rest), _) => (rest, true),
            (None, Some(rest)) => (rest, false),
            (None, None) => continue,
        };
        let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
        let labels = labels_of(labels);
        let Some(flow) = flow(pod, &labels) else { continue };
        let figures = found.entry(flow).or_default();
        let Ok(value) = value.trim().parse::<f64>() else { continue };
        let value = value as u64;
        if requests {
            if failed(&labels) { figures.failure += value } else { figures.success += value }
        } else if let Some(limit) = labels.get("le").and_then(|limit| micros(limit)) {
            *figures.within.entry(limit).or_default() += value;
        }
    }
    found
}

fn micros(limit: &str) -> Option<u64> {
    if limit == "+Inf" { Some(u64::MAX) } else { limit.parse::<f64>().ok().map(|ms| (ms * 1000.0) as u64) }
}

/// A failure is the server's: 5xx, no answer, or a gRPC status that says so.
fn failed(labels: &BTreeMap<&str, &str>) -> bool {
    let code: u16 = labels.get("response_code").and_then(|code| code.parse().ok()).unwrap_or(0);
    let grpc = labels.get("grpc_response_status").copied().unwrap_or_default();
    code == 0 || code >= 500 || matches!(grpc, "2" | "4" | "13" | "14" | "15")
}

fn flow(pod: &Key, labels: &BTreeMap<&str, &str>) -> Option<Flow> {
    let get = |name: &str| labels.get(name).copied().filter(|value| *value != "unknown").unwrap_or_default();
    let (direction, side) = match get("reporter") {
        "destination" => (Direction::From, "source"),
        "source" => (Direction::To, "destination"),
        _ => return None,
    };
    let peer = Key::new(get(&format!("{side}_workload_namespace")), get(&format!("{side}_workload")));
    let service = Key::new(get("destination_service_namespace"), get("destination_service_name"));
    Some(Flow { pod: pod.clone(), direction, peer, service })
}

/// `name="value",…`; values with a quote in them are none of ours.
fn labels_of(text: &str) -> BTreeMap<&str, &str> {
    let pairs = text.split("\",").filter_map(|pair| pair.split_once("=\""));
    pairs.map(|(name, value)| (name.trim_start_matches(','), value.trim_end_matches('"'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        let text = "# TYPE istio_requests_total counter\n\
            istio_requests_total{reporter=\"destination\",source_workload=\"web\",source_workload_namespace=\"shop\",destination_service_name=\"api\",destination_service_namespace=\"shop\",response_code=\"200\"} 7\n\
            istio_requests_total{reporter=\"destination\",source_workload=\"web\",source_workload_namespace=\"shop\",destination_service_name=\"api\",destination_service_namespace=\"shop\",response_code=\"503\"} 2\n\
            istio_request_duration_milliseconds_bucket{reporter=\"destination\",source_workload=\"web\",source_workload_namespace=\"shop\",destination_service_name=\"api\",destination_service_namespace=\"shop\",response_code=\"200\",le=\"0.5\"} 6\n\
            other{a=\"b\"} 1\n";
        let found = counted(&Key::new("shop", "api-1"), text);
        let (flow, figures) = found.first_key_value().unwrap();
        assert_eq!((found.len(), flow.direction, flow.peer.to_string().as_str()), (1, Direction::From, "shop/web"));
        assert_eq!((figures.success, figures.failure), (7, 2));
        assert_eq!(figures.within, BTreeMap::from([(500, 6)]));
    }
}
