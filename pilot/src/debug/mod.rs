//! The pages at the monitoring address.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::ads::Registry;
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

/// All pages.
pub fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(|| async { Html(include_str!("dashboard.html")) }))
        .route("/ready", get(|| async { "ready\n" }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/debug/syncz", get(syncz))
        .route("/debug/configz", get(configz))
        .route("/debug/endpointz", get(endpointz))
        .route("/debug/edsz", get(endpointz))
        .route("/debug/clusterz", get(clusterz))
        .with_state(pages)
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
