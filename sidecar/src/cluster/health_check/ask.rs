//! One question to one host: HTTP/1, HTTP/2, gRPC's health service, or TCP.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use http::header::{HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Answer, HealthCheck, HttpCheck, Kind};
use crate::cluster::{Cluster, Host};
use crate::tls::TlsRequest;
use crate::upstream::local_cluster::establish;

/// An answer's body is read up to this, so that the connection can be used again.
const LARGEST_BODY: usize = 64 << 10;

enum Open {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Asks one host, over the same connection as long as it lasts.
pub struct Asker {
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    check: HealthCheck,
    open: Option<Open>,
}

impl Asker {
    pub fn new(cluster: Arc<Cluster>, host: Arc<Host>, check: HealthCheck) -> Self {
        Asker { cluster, host, check, open: None }
    }

    /// The next question goes over a new connection.
    pub fn hang_up(&mut self) {
        self.open = None;
    }

    pub async fn ask(&mut self) -> Answer {
        let asked = match self.check.kind.clone() {
            Kind::Http(check) => self.http(&check).await,
            Kind::Grpc { service, authority } => self.grpc(&service, &authority).await,
            Kind::Tcp { send, receive } => self.tcp(&send, &receive).await,
        };
        if asked.is_none() || !self.check.reuse_connection {
            self.hang_up();
        }
        asked.unwrap_or(Answer::Silent)
    }

    async fn http(&mut self, check: &HttpCheck) -> Option<Answer> {
        let host = [self.host.check.hostname.as_ref(), check.host.as_str(), &self.cluster.name];
        let host = host.into_iter().find(|name| !name.is_empty())?;
        let mut request = Request::new(Full::new(Bytes::from(check.send.clone())));
        *request.method_mut() = check.method.clone();
        *request.headers_mut() = check.headers.clone();
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static("Envoy/HC"));
        self.address(&mut request, host, &check.path, check.http2)?;
        let response = self.send(request, check.http2).await?;
        let status = response.status().as_u16();
        let degraded = response.headers().contains_key("x-envoy-degraded");
        let within = |ranges: &[(u16, u16)]| ranges.iter().any(|(from, to)| (*from..*to).contains(&status));
        let answer = match () {
            () if within(&check.expected) && degraded => Answer::Degraded,
            () if within(&check.expected) => Answer::Good,
            () if within(&check.retriable) => Answer::Retriable,
            () => Answer::Bad,
        };
        if Limited::new(response.into_body(), LARGEST_BODY).collect().await.is_err() {
            self.hang_up();
        }
        Some(answer)
    }

    /// Source: gRPC Health Checking Protocol.
    async fn grpc(&mut self, service: &str, authority: &str) -> Option<Answer> {
        let mut message = Vec::new();
        if !service.is_empty() {
            let length = u8::try_from(service.len()).ok().filter(|n| *n < 0x80)?;
            message.extend([0x0a, length]);
            message.extend_from_slice(service.as_bytes());
        }
        let mut body = vec![0];
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert(USER_AGENT, HeaderValue::from_static("Envoy/HC"));
        let authority = if authority.is_empty() { self.cluster.name.to_string() } else { authority.to_owned() };
        self.address(&mut request, &authority, "/grpc.health.v1.Health/Check", true)?;
        let response = self.send(request, true).await?;
        if !response.status().is_success() {
            return Some(Answer::Bad);
        }
        let told = response.headers().get("grpc-status").cloned();
        let collected = Limited::new(response.into_body(), LARGEST_BODY).collect().await.ok()?;
        let status = told.or_else(|| collected.trailers().and_then(|t| t.get("grpc-status").cloned()));
        if status.is_some_and(|status| status != "0") {
            return Some(Answer::Bad);
        }
        let mut reply = collected.aggregate();
        let reply = reply.copy_to_bytes(reply.remaining());
        // Field 1 is SERVING.
        Some(if reply.get(5..) == Some(&[0x08, 0x01]) { Answer::Good } else { Answer::Bad })
    }

    async fn tcp(&mut self, send: &[u8], receive: &[Vec<u8>]) -> Option<Answer> {
        let mut io = establish(&self.cluster, &self.host, TlsRequest::default()).await.ok()?.io;
        if !send.is_empty() {
            io.write_all(send).await.ok()?;
        }
        let mut came = Vec::new();
        while !contains_in_order(&came, receive) {
            let mut chunk = [0; 1024];
            let n = io.read(&mut chunk).await.ok()?;
            came.extend_from_slice(chunk.get(..n).filter(|c| !c.is_empty())?);
            if came.len() > LARGEST_BODY {
                return Some(Answer::Bad);
            }
        }
        Some(Answer::Good)
    }

    fn address(&self, request: &mut Request<Full<Bytes>>, host: &str, path: &str, http2: bool) -> Option<()> {
        let value = HeaderValue::from_str(host).ok()?;
        *request.uri_mut() = if http2 {
            let scheme = if self.cluster.tls_for(&self.host).is_some() { "https" } else { "http" };
            Uri::builder().scheme(scheme).authority(host).path_and_query(path).build().ok()?
        } else {
            request.headers_mut().insert(HOST, value);
            path.parse().ok()?
        };
        Some(())
    }

    async fn send(&mut self, request: Request<Full<Bytes>>, http2: bool) -> Option<Response<Incoming>> {
        let usable = match &mut self.open {
            Some(Open::Http1(sender)) => sender.ready().await.is_ok(),
            Some(Open::Http2(sender)) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            self.open = Some(self.connect(http2).await?);
        }
        match self.open.as_mut()? {
            Open::Http1(sender) => sender.send_request(request).await.ok(),
            Open::Http2(sender) => sender.send_request(request).await.ok(),
        }
    }

    async fn connect(&self, http2: bool) -> Option<Open> {
        let request = TlsRequest::speaking(if http2 { b"h2" } else { b"http/1.1" });
        let established = establish(&self.cluster, &self.host, request).await.ok()?;
        let io = TokioIo::new(established.io);
        // A connection that ends is noticed by the next question.
        Some(if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.ok()?;
            tokio::spawn(connection);
            Open::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.ok()?;
            tokio::spawn(connection);
            Open::Http1(sender)
        })
    }
}

fn contains_in_order(mut text: &[u8], parts: &[Vec<u8>]) -> bool {
    parts.iter().all(|part| {
        let at = memchr::memmem::find(text, part);
        text = at.and_then(|at| text.get(at + part.len()..)).unwrap_or_default();
        at.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::contains_in_order;

    #[test]
    fn parts_must_come_in_order() {
        let parts = |list: &[&str]| -> Vec<Vec<u8>> { list.iter().map(|p| p.as_bytes().to_vec()).collect() };
        assert!(contains_in_order(b"xaybz", &parts(&["a", "b"])));
        assert!(!contains_in_order(b"xaybz", &parts(&["b", "a"])));
        assert!(contains_in_order(b"", &parts(&[])));
    }
}
