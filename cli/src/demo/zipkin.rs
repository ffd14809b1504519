//! A small store that takes spans as Zipkin does (POST /api/v2/spans) and shows the last traces (GET /api/v2/traces).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use anyhow::Context;
use api::mesh_config::ZipkinUrl;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;

use super::load::get as fetch;

/// How many spans are kept.
const SPANS: usize = 20_000;

/// The spans that came last.
#[derive(Clone, Default)]
pub(super) struct Traces(Arc<Mutex<VecDeque<Value>>>);

impl Traces {
    /// Serves on a port of its own choice, for as long as the program runs.
    pub(super) async fn serve(&self) -> anyhow::Result<ZipkinUrl> {
        let listener = TcpListener::bind("127.0.10.2:0").await?;
        let port = listener.local_addr()?.port();
        let router = Router::new()
            .route("/api/v2/spans", post(take))
            .route("/api/v2/traces", get(traces))
            .route("/api/v2/trace/{id}", get(trace))
            .route("/api/v2/services", get(services))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(format!("http://127.0.10.2:{port}/api/v2/spans").parse()?)
    }
}

/// The services of each of the last traces, by Zipkin's API.
///
/// # Errors
/// No answer, or none that is a list of traces.
pub(super) async fn services_by_trace(zipkin: &ZipkinUrl) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let address = if zipkin.host.contains(':') {
        format!("[{}]:{}", zipkin.host, zipkin.port)
    } else {
        format!("{}:{}", zipkin.host, zipkin.port)
    };
    let answer = fetch(&address, "/api/v2/traces?limit=100", &zipkin.host).await.context("Zipkin does not answer")?;
    anyhow::ensure!(answer.status == 200, "Zipkin answers {}", answer.status);
    let traces: Vec<Vec<Value>> =
        serde_json::from_slice(&answer.body).context("Zipkin's answer is no list of traces")?;
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for span in traces.iter().flatten() {
        if let (Some(id), Some(service)) = (id(span), service(span)) {
            found.entry(id.to_owned()).or_default().insert(service.to_owned());
        }
    }
    Ok(found)
}

fn id(span: &Value) -> Option<&str> {
    span.get("traceId")?.as_str()
}

fn service(span: &Value) -> Option<&str> {
    span.get("localEndpoint")?.get("serviceName")?.as_str()
}

async fn take(State(traces): State<Traces>, Json(spans): Json<Vec<Value>>) -> StatusCode {
    let mut kept = traces.0.lock();
    kept.extend(spans);
    let excess = kept.len().saturating_sub(SPANS);
    kept.drain(..excess);
    StatusCode::ACCEPTED
}

async fn traces(State(traces): State<Traces>) -> Json<Vec<Vec<Value>>> {
    let mut by_id: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for span in traces.0.lock().iter().rev().take(1000) {
        by_id.entry(id(span).unwrap_or_default().to_owned()).or_default().push(span.clone());
    }
    Json(by_id.into_values().take(100).collect())
}

async fn trace(State(traces): State<Traces>, Path(wanted): Path<String>) -> Result<Json<Vec<Value>>, StatusCode> {
    let spans: Vec<Value> = traces.0.lock().iter().filter(|span| id(span) == Some(&wanted)).cloned().collect();
    if spans.is_empty() { Err(StatusCode::NOT_FOUND) } else { Ok(Json(spans)) }
}

async fn services(State(traces): State<Traces>) -> Json<BTreeSet<String>> {
    Json(traces.0.lock().iter().filter_map(service).map(str::to_owned).collect())
}
