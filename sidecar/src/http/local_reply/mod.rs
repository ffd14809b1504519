//! The single place where a reply of our own becomes a response: status and body for HTTP callers, a
//! trailers-only response with a mapped status for gRPC callers.
//! Source: Envoy's `Utility::sendLocalReply` and `Grpc::Utility::httpToGrpcStatus`.

pub mod config;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

use super::filter::LocalReply;
use crate::body::ResponseBody;
use crate::error::{ProxyError, ResponseFlags};
use crate::format::Context;
use crate::observe::access_log::{Filter, Shape};
use crate::request::RequestHead;
use crate::route::HeaderOps;
use crate::stream::Stream;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What about the request shapes the reply.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub method: &'a Method,
    pub grpc: bool,
}

impl From<&ProxyError> for LocalReply {
    fn from(error: &ProxyError) -> Self {
        let mut reply = LocalReply::new(error.status(), error.body(), error.details()).flags(error.flags());
        if error.flags().contains(ResponseFlags::UPSTREAM_OVERFLOW) {
            reply.headers.insert(HeaderName::from_static("x-envoy-overloaded"), HeaderValue::from_static("true"));
        }
        reply
    }
}

/// How replies of ours are changed before they go out. Source: `LocalReplyConfig`.
pub struct Mapping {
    mappers: Vec<Mapper>,
    format: Option<BodyFormat>,
}

/// Changes the replies that its filter passes; the first that does is the only one.
struct Mapper {
    filter: Filter,
    status: Option<u16>,
    body: Option<String>,
    format: Option<BodyFormat>,
    headers: HeaderOps,
}

struct BodyFormat {
    shape: Shape,
    content_type: HeaderValue,
}

impl Mapping {
    pub fn apply(&self, reply: &mut LocalReply, stream: &Stream, request: Option<&RequestHead>) {
        let context = Context { request, ..Context::of(stream) };
        let mapper = self.mappers.iter().find(|mapper| mapper.filter.passes(&context));
        if let Some(mapper) = mapper {
            if let Some(body) = &mapper.body {
                reply.body = body.clone().into();
            }
            if let Some(request) = request {
                mapper.headers.apply_response(&mut reply.headers, request, stream);
            }
            if let Some(status) = mapper.status {
                reply.status = status;
                stream.response_code.set(Some(status));
            }
        }
        if let Some(format) = mapper.and_then(|mapper| mapper.format.as_ref()).or(self.format.as_ref()) {
            reply.body = format.shape.render(&Context { local_reply_body: &reply.body, ..context }).into();
            reply.headers.insert(CONTENT_TYPE, format.content_type.clone());
        }
    }
}

/// Makes the response.
pub fn render(reply: LocalReply, caller: Caller<'_>) -> Response<ResponseBody> {
    let LocalReply { status, grpc_status, body, headers, raw, .. } = reply;
    let mut response = Response::new(ResponseBody::empty());
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    if caller.grpc {
        let code = grpc_status.unwrap_or_else(|| grpc_status_of(status));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, HeaderValue::from(code));
        if !body.is_empty()
            && let Ok(message) = HeaderValue::from_str(&percent_encoded(&body))
        {
            headers.insert(GRPC_MESSAGE, message);
        }
        return response;
    }
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let headers = response.headers_mut();
    if !body.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        if !raw || !headers.contains_key(CONTENT_TYPE) {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain"));
        }
    } else {
        headers.remove(CONTENT_TYPE);
    }
    if caller.method != Method::HEAD {
        *response.body_mut() = ResponseBody::full(body.into_owned());
    }
    response
}

/// The gRPC status that an HTTP status stands for.
pub fn grpc_status_of(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// A gRPC message as a header can carry it. Source: gRPC over HTTP/2, "Percent-Encoded".
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_and_grpc_callers() {
        let reply = || LocalReply::from(&ProxyError::NoHealthyUpstream);
        let http = render(reply(), Caller { method: &Method::GET, grpc: false });
        assert_eq!((http.status().as_u16(), &http.headers()[CONTENT_LENGTH]), (503, &HeaderValue::from(19)));
        let grpc = render(reply(), Caller { method: &Method::POST, grpc: true });
        assert_eq!(grpc.status(), 200);
        assert_eq!(
            (&grpc.headers()[GRPC_STATUS], &grpc.headers()[GRPC_MESSAGE]),
            (&HeaderValue::from(14), &HeaderValue::from_static("no healthy upstream"))
        );
        assert_eq!(percent_encoded("50% é"), "50%25 %C3%A9");
    }
}
