//! What `metrics.smi-spec.io/v1alpha1` answers, by path. Not who may ask: over HTTPS the API server alone, which asks for users whom it
//! has let in before; at the monitoring address, as all of its pages, whoever reaches it.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use smi_adapter::metrics::{API_VERSION, Question, resources};

use crate::push::Latest;
use crate::traffic::Figured;

/// What answers are made from.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// What there is.
    pub latest: Latest,
    /// What it did.
    pub traffic: Figured,
}

/// All paths.
pub fn router(metrics: Metrics) -> Router {
    Router::new()
        .route(&format!("/apis/{API_VERSION}"), get(|| async { Json(resources()) }))
        .route(&format!("/apis/{API_VERSION}/"), get(|| async { Json(resources()) }))
        .route(&format!("/apis/{API_VERSION}/{{*path}}"), get(answer))
        .fallback(|| async { missing("there is no such path") })
        .with_state(Arc::new(metrics))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    label_selector: String,
}

async fn answer(State(metrics): State<Arc<Metrics>>, Path(path): Path<String>, Query(asked): Query<Asked>) -> Response {
    let Some(question) = Question::read(&path, &asked.label_selector) else { return missing("there is no such kind") };
    let published = metrics.latest.borrow().clone();
    let traffic = metrics.traffic.borrow().clone();
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    match question.answer(&published.observed.objects, &traffic, &now) {
        Some(answer) => Json(answer).into_response(),
        None => missing(&format!("{path} is not there, or has no pod in the mesh")),
    }
}

/// Source: Kubernetes `meta/v1.Status`.
fn missing(message: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": "NotFound", "code": 404});
    (StatusCode::NOT_FOUND, Json(status)).into_response()
}
