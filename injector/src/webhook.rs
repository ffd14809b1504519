//! The admission webhooks' paths: `/inject` changes pods, `/validate` refuses objects of ours and SMI's that are wrong by themselves.
//! What is no review is answered with 400, whatever it is. Who serves this, and with which certificate, is not decided here.

use std::sync::Arc;

use api::{Severity, manifest};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use tokio::sync::watch;

use crate::decide::Namespace::{Chosen, Known};
use crate::decide::decide;
use crate::review::{self, NoReview, Request};
use crate::{Marks, Settings};

/// Pods may be large; the API server itself takes no more than 3 MiB.
const MAX_BODY: usize = 8 << 20;

/// Where labels and annotations of namespaces are known.
pub trait Namespaces: Send + Sync + 'static {
    /// As they were last seen.
    fn seen(&self, namespace: &str) -> Option<Marks>;

    /// As they are now; `None` when that cannot be told.
    fn ask(&self, namespace: &str) -> impl Future<Output = Option<Marks>> + Send;
}

/// For whom nobody tells: the API server has chosen the pod by its webhooks' selectors.
#[derive(Clone, Copy, Debug)]
pub struct Untold;

impl Namespaces for Untold {
    fn seen(&self, _: &str) -> Option<Marks> {
        None
    }

    async fn ask(&self, _: &str) -> Option<Marks> {
        None
    }
}

struct Webhook<N> {
    settings: watch::Receiver<Arc<Settings>>,
    namespaces: N,
}

/// Both paths; each review is answered by the settings of its time.
pub fn router<N: Namespaces>(settings: watch::Receiver<Arc<Settings>>, namespaces: N) -> Router {
    Router::new()
        .route("/inject", post(inject::<N>))
        .route("/validate", post(validate))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(Webhook { settings, namespaces }))
}

impl IntoResponse for NoReview {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, format!("{self}\n")).into_response()
    }
}

/// The API server has called because of the namespace's label, which may be too new to have been seen: it is asked before a no.
async fn inject<N: Namespaces>(State(webhook): State<Arc<Webhook<N>>>, body: Bytes) -> Result<Json<Value>, NoReview> {
    let request = Request::read(&body)?;
    let settings = webhook.settings.borrow().clone();
    let mut marks = webhook.namespaces.seen(&request.namespace);
    let injects = |marks: &Marks| {
        let decision = decide(&request.object, &request.namespace, Known(marks), &settings);
        decision.is_ok_and(|decision| decision.injects())
    };
    if !marks.as_ref().is_some_and(injects) {
        marks = webhook.namespaces.ask(&request.namespace).await.or(marks);
    }
    let namespace = marks.as_ref().map_or(Chosen, Known);
    Ok(Json(review::pod(&request, namespace, &settings)))
}

/// Denies what is new and an error by the object alone; what names others that are not there may come before them.
async fn validate(body: Bytes) -> Result<Json<Value>, NoReview> {
    let request = Request::read(&body)?;
    if request.says_nothing_new() {
        return Ok(Json(request.allow(&[])));
    }
    let told = manifest::read_json(request.object.clone());
    let of = |severity: Severity| told.problems.iter().filter(move |problem| problem.severity() == severity);
    let errors: Vec<String> = of(Severity::Error)
        .map(|problem| match &problem.help {
            Some(help) => format!("{} ({help})", problem.message),
            None => problem.message.clone(),
        })
        .collect();
    let warnings: Vec<String> =
        of(Severity::Warning).map(|problem| format!("{}: {}", problem.reason, problem.message)).collect();
    Ok(Json(if errors.is_empty() { request.allow(&warnings) } else { request.deny(&errors.join("; ")) }))
}
