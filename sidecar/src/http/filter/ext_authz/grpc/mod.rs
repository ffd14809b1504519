//! The question as a call of `envoy.service.auth.v3.Authorization/Check`. Source: Envoy's `GrpcClientImpl`.

pub mod config;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::uri::PathAndQuery;

use super::question::{Question, Service, ServiceError};
use super::verdict::Verdict;
use crate::http::ask::{Answer, ask};
use crate::request::{RequestHead, Scheme};
use crate::stream::Protocol;

const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
const XFF: HeaderName = HeaderName::from_static("x-forwarded-for");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

pub struct Grpc {
    pub authority: HeaderValue,
    pub metadata: Vec<(HeaderName, HeaderValue)>,
    /// Show the caller's certificate.
    pub certificate: bool,
    /// Show the server name that the caller asked TLS for.
    pub tls_session: bool,
    /// Namespaces of dynamic metadata that are told.
    pub namespaces: Vec<String>,
}

impl Grpc {
    /// # Errors
    /// No answer came, or none that can be read.
    pub async fn ask(&self, service: &Service, question: &Question<'_>) -> Result<Verdict, ServiceError> {
        let message = config::question(self, service, question);
        let head = self.head(service, question);
        let answer = ask(question.exchange, &service.cluster, head, framed(&message), service.timeout).await?;
        config::verdict(message_of(&answer)?)
    }

    fn head(&self, service: &Service, question: &Question<'_>) -> RequestHead {
        let mut headers = HeaderMap::new();
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let timeout = format!("{}m", service.timeout.as_millis().min(99_999_999));
        headers.extend(HeaderValue::from_str(&timeout).map(|timeout| (TIMEOUT, timeout)));
        let own = question.exchange.connection_manager.forwarded.own_address;
        let own = own.map_or_else(|| "127.0.0.1".to_owned(), |own| own.to_string());
        headers.extend(HeaderValue::from_str(&own).map(|own| (XFF, own)));
        headers.extend(self.metadata.iter().cloned());
        RequestHead {
            method: Method::POST,
            scheme: Scheme::Http,
            authority: Some(self.authority.clone()),
            path: Some(PathAndQuery::from_static(PATH)),
            headers,
            protocol: Protocol::Http2,
            connect_protocol: None,
        }
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut all = BytesMut::with_capacity(message.len() + 5);
    all.put_u8(0);
    all.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    all.put_slice(message);
    all.freeze()
}

/// The one message of a call that went well.
fn message_of(answer: &Answer) -> Result<&[u8], ServiceError> {
    let status = answer.trailers.get("grpc-status").or_else(|| answer.headers.get("grpc-status"));
    let status = status.map(|status| String::from_utf8_lossy(status.as_bytes()).into_owned());
    if answer.status != 200 || status.as_deref() != Some("0") {
        return Err(ServiceError::Status(status));
    }
    let broken = || ServiceError::Message("it has no whole message".to_owned());
    let mut prefix = answer.body.get(..5).ok_or_else(broken)?;
    let (flag, length) = (prefix.get_u8(), prefix.get_u32() as usize);
    let message = answer.body.get(5..).filter(|rest| flag == 0 && rest.len() == length);
    message.ok_or_else(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &'static [u8], status: Option<&'static str>, expected: Option<&[u8]>) {
        let trailers = status.map(|s| (HeaderName::from_static("grpc-status"), HeaderValue::from_static(s)));
        let trailers = trailers.into_iter().collect();
        let answer = Answer { status: 200, headers: HeaderMap::new(), body: Bytes::from_static(body), trailers };
        assert_eq!(message_of(&answer).ok(), expected, "{body:?} {status:?}");
    }

    #[test]
    fn answers() {
        check(b"\0\0\0\0\x02ab", Some("0"), Some(b"ab"));
        check(b"\0\0\0\0\0", Some("0"), Some(b""));
        check(b"\0\0\0\0\x02ab", Some("13"), None);
        check(b"\0\0\0\0\x02ab", None, None);
        check(b"\x01\0\0\0\x02ab", Some("0"), None);
        check(b"\0\0\0\0\x03ab", Some("0"), None);
        check(b"\0\0", Some("0"), None);
        assert_eq!(framed(b"ab"), &b"\0\0\0\0\x02ab"[..]);
    }
}
