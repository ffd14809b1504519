//! The pages at the monitoring address.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use api::Key;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use xds::json::{Secrets, print_encoded};

use crate::ads::Registry;
use crate::ir::Families;
use crate::metrics_api::{self, Metrics};
use crate::plan::{Flavour, ProxyClass};
use crate::push::Latest;
use crate::source::diagnostics;

/// What the pages show.
#[derive(Clone, Debug)]
pub struct Pages {
    /// The mesh.
    pub latest: Latest,
    /// The connected proxies.
    pub registry: Arc<Registry>,
}

/// Below what path the metrics API's answers are to be had without an API server.
pub const TRAFFIC: &str = "/debug/traffic";

/// All pages; those of traffic where it is gathered.
pub fn router(pages: Pages, traffic: Option<Metrics>) -> Router {
    let router = Router::new()
        .route("/", get(|| async { Html(include_str!("dashboard.html")) }))
        .route("/ready", get(|| async { "ready\n" }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/debug/syncz", get(syncz))
        .route("/debug/configz", get(configz))
        .route("/debug/endpointz", get(endpointz))
        .route("/debug/edsz", get(endpointz))
        .route("/debug/clusterz", get(clusterz))
        .route("/debug/config_dump", get(config_dump))
        .with_state(pages);
    match traffic {
        Some(metrics) => router.nest(TRAFFIC, metrics_api::router(metrics)),
        None => router,
    }
}

async fn syncz(State(pages): State<Pages>) -> impl IntoResponse {
    Json(json!({ "proxies": pages.registry.all() }))
}

async fn configz(State(pages): State<Pages>) -> impl IntoResponse {
    let published = pages.latest.borrow().clone();
    Json(json!({
        "generation": published.generation,
        "objects": diagnostics::entries(&published.observed.objects, &published.problems),
    }))
}

async fn endpointz(State(pages): State<Pages>) -> impl IntoResponse {
    let published = pages.latest.borrow().clone();
    let services: Vec<Value> = published
        .mesh
        .endpoints
        .iter()
        .map(|((service, port), endpoints)| {
            let endpoints: Vec<Value> = endpoints
                .iter()
                .map(|e| json!({ "address": e.address, "port": e.port, "workload": e.workload, "zone": e.zone }))
                .collect();
            json!({ "service": service, "port": port, "endpoints": endpoints })
        })
        .collect();
    Json(json!({ "services": services }))
}

async fn clusterz(State(pages): State<Pages>) -> impl IntoResponse {
    let published = pages.latest.borrow().clone();
    let services: Vec<Value> = published
        .mesh
        .services
        .values()
        .map(|service| {
            let ports: Vec<&u16> = service.ports.keys().collect();
            let policy = service.policy.source.as_ref().map(ToString::to_string);
            json!({ "service": service.key, "name": service.fqdn, "ports": ports, "policy": policy })
        })
        .collect();
    Json(
        json!({ "services": services, "routings": published.mesh.routings.values().flatten().map(AsRef::as_ref).collect::<Vec<_>>() }),
    )
}

#[derive(Deserialize)]
struct Asked {
    /// `NAME.NAMESPACE`.
    proxy: String,
    /// `outrigger`, `envoy` or `grpc`; the first by default.
    #[serde(default, rename = "as")]
    flavour: String,
}

/// What a proxy is sent, by type, as its own `/config_dump` would show it; never a key.
async fn config_dump(State(pages): State<Pages>, Query(asked): Query<Asked>) -> Response {
    let Some((name, namespace)) = asked.proxy.rsplit_once('.') else {
        return (StatusCode::BAD_REQUEST, "proxy must be NAME.NAMESPACE\n").into_response();
    };
    let flavour = match asked.flavour.as_str() {
        "grpc" => Flavour::Grpc,
        "envoy" => Flavour::Envoy,
        _ => Flavour::Outrigger,
    };
    let published = pages.latest.borrow().clone();
    let workload = Key::new(namespace, name);
    let addresses = published.mesh.workloads.get(&workload).into_iter().flat_map(|workload| workload.addresses());
    let families = Families::of(addresses);
    let class = ProxyClass { workload, flavour, families };
    let Some(set) = published.resources(&class) else {
        return (StatusCode::NOT_FOUND, format!("no workload {name} in namespace {namespace}\n")).into_response();
    };
    let schema = xds::Schema::shared();
    let mut dump: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for resource in set.iter() {
        let message = xds::type_url::message_name(&resource.type_url);
        let printed = print_encoded(&schema, message, &resource.body, Secrets::Redact).map(|json| json.compact());
        let shown = printed.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null);
        dump.entry(xds::type_url::short(&resource.type_url)).or_default().push(shown);
    }
    Json(json!({ "proxy": asked.proxy, "resources": dump })).into_response()
}

/// Source: Prometheus' text format.
async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let published = pages.latest.borrow().clone();
    let proxies = pages.registry.all();
    let refused = proxies.iter().flat_map(|proxy| proxy.types.values()).filter(|kind| kind.status == "REFUSED").count();
    let mut text = String::new();
    let gauges = [
        ("outrigger_pilot_generation", "States of the mesh published so far", published.generation as usize),
        ("outrigger_pilot_proxies", "Connected proxies", proxies.len()),
        ("outrigger_pilot_refused", "Resource types that a connected proxy refuses", refused),
        ("outrigger_pilot_problems", "Problems in objects", published.problems.len()),
        ("outrigger_pilot_services", "Services", published.mesh.services.len()),
        ("outrigger_pilot_workloads", "Workloads", published.mesh.workloads.len()),
    ];
    for (name, help, value) in gauges {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
