//! Requests of our own to a cluster, for filters that ask a service before they let a request pass: the whole answer, within
//! a limit of time and size. What is asked and what the answer means is theirs.
//! Source: Envoy's `Http::AsyncClient`.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use http_body_util::BodyExt;
use thiserror::Error;

use super::filter::Exchange;
use crate::body::{BodyError, RequestBody, ResponseBody};
use crate::error::ProxyError;
use crate::request::RequestHead;
use crate::stream::Stream;
use crate::upstream::call::{Call, Facts};
use crate::upstream::stack;

const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");

/// The most that an answer may be.
const LARGEST: usize = 4 << 20;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

#[derive(Debug, Error)]
pub enum AskError {
    #[error("there is no cluster '{0}'")]
    NoCluster(String),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("{0:?}")]
    Upstream(ProxyError),
    #[error("the answer broke off: {0}")]
    Broken(#[from] BodyError),
    #[error("the answer is too large")]
    TooLarge,
}

/// Sends the request to the cluster and waits for all of the answer.
///
/// # Errors
/// There is no such cluster, nothing came in time, or not all of it.
pub async fn ask(
    exchange: &Exchange,
    cluster: &str,
    mut head: RequestHead,
    body: Bytes,
    timeout: Duration,
) -> Result<Answer, AskError> {
    let found = exchange.snapshot.cluster(cluster).cloned();
    let cluster = found.ok_or_else(|| AskError::NoCluster(cluster.to_owned()))?;
    let told = std::mem::take(&mut head.headers);
    head.headers.insert(INTERNAL, HeaderValue::from_static("true"));
    head.headers.extend(told);
    let stream = Stream::new(exchange.stream.connection.clone());
    stream.internal.set(true);
    let facts = Facts::of(Rc::new(stream), cluster.clone(), Some(timeout));
    let call = Call { head, body: RequestBody::full(body), facts: Rc::new(facts) };
    let answered = async {
        let response = stack::send(call, None).await.map_err(AskError::Upstream)?;
        cluster.count_code(response.status().as_u16(), true);
        read(response).await
    };
    tokio::time::timeout(timeout, answered).await.unwrap_or(Err(AskError::Late(timeout)))
}

async fn read(response: http::Response<ResponseBody>) -> Result<Answer, AskError> {
    let (parts, mut body) = response.into_parts();
    let (mut all, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if all.len() + data.len() > LARGEST => return Err(AskError::TooLarge),
            Ok(data) => all.extend_from_slice(&data),
            Err(other) => trailers.extend(other.into_trailers().unwrap_or_default()),
        }
    }
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body: all.freeze(), trailers })
}
