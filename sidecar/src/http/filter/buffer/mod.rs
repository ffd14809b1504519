//! Holds a request until all of its body has come, up to a limit. Source: Envoy's `envoy.filters.http.buffer`; what is
//! over the limit is refused in every case, where Envoy lets a body pass that comes in one piece.

pub mod config;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderValue};
use http_body_util::BodyExt;

use super::{Action, Exchange, FilterRequest, HttpFilter, LocalReply};
use crate::body::RequestBody;

pub struct Buffer {
    name: String,
    limit: u64,
}

/// A route's limit.
pub struct Limit(pub u64);

impl HttpFilter for Buffer {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        if request.body.is_empty() {
            return Action::Continue;
        }
        let limit = exchange.route_config::<Limit>(&self.name).map_or(self.limit, |limit| limit.0);
        Action::Wait(Box::pin(async move {
            match collect(&mut request.body, limit).await {
                Some(bytes) => {
                    request.head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(bytes.len()));
                    request.body = RequestBody::full(bytes);
                    Action::Continue
                }
                None => {
                    exchange.connection_manager.stats.rq_too_large.inc();
                    let reply = LocalReply::new(413, "Payload Too Large", "request_payload_too_large");
                    Action::Reply(Box::new(reply))
                }
            }
        }))
    }
}

/// `None`: it is too long. A body that breaks off is passed on as far as it came: its request is gone anyway.
async fn collect(body: &mut RequestBody, limit: u64) -> Option<Bytes> {
    let mut all = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            if (all.len() + data.len()) as u64 > limit {
                return None;
            }
            all.extend_from_slice(data);
        }
    }
    Some(all.freeze())
}
