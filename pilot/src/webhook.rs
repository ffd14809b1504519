//! The webhooks, over HTTPS: `/inject`, `/validate`, `/convert`. What is no review is answered with 400, whatever it is.

use std::sync::Arc;

use api::{Key, Severity, manifest};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use injector::Marks;
use injector::decide::Namespace::{Chosen, Known};
use injector::decide::decide;
use injector::review::{self, NoReview, Request};
use serde_json::Value;

use crate::kubernetes::{Cluster, InjectorSettings, marks};
use crate::push::Latest;

/// Pods and lists of objects to convert may be large; the API server itself takes no more than 3 MiB.
const MAX_BODY: usize = 8 << 20;

/// What the webhooks decide by.
#[derive(Clone)]
pub struct Webhook {
    latest: Latest,
    settings: InjectorSettings,
    cluster: Cluster,
}

impl Webhook {
    /// `latest` has namespaces with their labels, `settings` what the installation says.
    #[must_use]
    pub const fn new(latest: Latest, settings: InjectorSettings, cluster: Cluster) -> Self {
        Self { latest, settings, cluster }
    }

    fn known(&self, namespace: &str) -> Option<Marks> {
        let published = self.latest.borrow();
        let stored = published.observed.objects.namespaces.get(&Key::new("", namespace))?;
        Some(marks::of_watched(&stored.metadata))
    }
}

/// All paths.
pub fn router(webhook: Webhook) -> Router {
    Router::new()
        .route("/inject", post(inject))
        .route("/validate", post(validate))
        .route("/convert", post(convert))
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(webhook))
}

struct Bad(String);

impl IntoResponse for Bad {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, self.0 + "\n").into_response()
    }
}

impl From<NoReview> for Bad {
    fn from(error: NoReview) -> Self {
        Self(error.to_string())
    }
}

/// The API server has called because of the namespace's label, which may be too new to be known here: it is asked before a no.
async fn inject(State(webhook): State<Arc<Webhook>>, body: Bytes) -> Result<Json<Value>, Bad> {
    let request = Request::read(&body)?;
    let settings = webhook.settings.borrow().clone();
    let mut marks = webhook.known(&request.namespace);
    let injects = |marks: &Marks| {
        let decision = decide(&request.object, &request.namespace, Known(marks), &settings);
        decision.is_ok_and(|decision| decision.injects())
    };
    if !marks.as_ref().is_some_and(injects) {
        marks = webhook.cluster.marks(&request.namespace).await.or(marks);
    }
    let namespace = marks.as_ref().map_or(Chosen, Known);
    Ok(Json(review::pod(&request, namespace, &settings)))
}

/// Denies what is new and an error by the object alone; what names others that are not there may come before them.
async fn validate(body: Bytes) -> Result<Json<Value>, Bad> {
    let request = Request::read(&body)?;
    if request.says_nothing_new() {
        return Ok(Json(request.allow(&[])));
    }
    let told = manifest::read_json(request.object.clone());
    let errors: Vec<String> = told
        .problems
        .iter()
        .filter(|problem| problem.severity() == Severity::Error)
        .map(|problem| {
            problem
                .help
                .as_ref()
                .map_or_else(|| problem.message.clone(), |help| format!("{} ({help})", problem.message))
        })
        .collect();
    let warnings: Vec<String> = told
        .problems
        .iter()
        .filter(|problem| problem.severity() == Severity::Warning)
        .map(|problem| format!("{}: {}", problem.reason, problem.message))
        .collect();
    Ok(Json(if errors.is_empty() { request.allow(&warnings) } else { request.deny(&errors.join("; ")) }))
}

async fn convert(body: Bytes) -> Result<Json<Value>, Bad> {
    smi_adapter::convert::review(&body).map(Json).map_err(|error| Bad(error.to_string()))
}
