//! The conversion webhook's path, `/convert`. What is no review is answered with 400. Who serves this is not decided here.

use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;

use crate::convert::{self, NoReview};

/// A review holds a whole list of objects.
const MAX_BODY: usize = 8 << 20;

/// The path.
pub fn router() -> Router {
    Router::new().route("/convert", post(convert)).layer(DefaultBodyLimit::max(MAX_BODY))
}

impl IntoResponse for NoReview {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, format!("{self}\n")).into_response()
    }
}

async fn convert(body: Bytes) -> Result<Json<Value>, NoReview> {
    convert::review(&body).map(Json)
}
