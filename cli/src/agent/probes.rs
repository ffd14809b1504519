//! Probes of the application, asked from within the pod, as the kubelet asks them. Source: Kubernetes `core/v1.Probe`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};

use super::metrics::{PASSED_ON, connect};

/// A probe as it was before the injector sent it here.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Probe {
    http_get: Option<HttpGet>,
    tcp_socket: Option<Host>,
    grpc: Option<Grpc>,
    port: u16,
    #[serde(default = "one")]
    timeout_seconds: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    #[serde(default)]
    path: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Clone, Debug, Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Host {
    #[serde(default)]
    host: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Grpc {
    #[serde(default)]
    service: String,
}

fn one() -> u64 {
    1
}

impl Probe {
    /// Reads what the injector wrote: probes by `CONTAINER/KIND`.
    pub(super) fn read(text: &str) -> anyhow::Result<BTreeMap<String, Self>> {
        serde_json::from_str(text).context("OUTRIGGER_PROBES")
    }

    /// Asks. An error says what is wrong.
    pub(super) async fn ask(&self, pod: IpAddr) -> anyhow::Result<()> {
        let host = self.http_get.as_ref().map(|http| &http.host).or(self.tcp_socket.as_ref().map(|tcp| &tcp.host));
        let address = host.and_then(|host| host.parse().ok()).unwrap_or(pod);
        let at = SocketAddr::new(address, self.port);
        let asked = async {
            let from = (address == pod).then_some(PASSED_ON);
            let stream = connect(at, from).await.with_context(|| format!("{at} takes no connection"))?;
            match (&self.http_get, &self.grpc) {
                (Some(http), _) if http.scheme.eq_ignore_ascii_case("https") => {
                    let name = ServerName::from(at.ip());
                    let stream = tokio_rustls::TlsConnector::from(unverified()?).connect(name, stream).await?;
                    http.ask(at, stream).await
                }
                (Some(http), _) => http.ask(at, stream).await,
                (None, Some(grpc)) => grpc.ask(at, stream).await,
                (None, None) => Ok(()),
            }
        };
        let limit = Duration::from_secs(self.timeout_seconds.max(1));
        tokio::time::timeout(limit, asked).await.with_context(|| format!("{at} does not answer in time"))?
    }
}

impl HttpGet {
    async fn ask(
        &self,
        at: SocketAddr,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> anyhow::Result<()> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let path = if self.path.starts_with('/') { self.path.clone() } else { format!("/{}", self.path) };
        let mut request = Request::builder().uri(path).body(Empty::<Bytes>::new())?;
        let headers = request.headers_mut();
        headers.insert("host", HeaderValue::from_str(&at.to_string())?);
        headers.insert("user-agent", HeaderValue::from_static("kube-probe/1"));
        headers.insert("accept", HeaderValue::from_static("*/*"));
        for Header { name, value } in &self.http_headers {
            headers.insert(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
        }
        let status = sender.send_request(request).await?.status();
        anyhow::ensure!((200..400).contains(&status.as_u16()), "{at}{} answers {status}", self.path);
        Ok(())
    }
}

/// Source: `grpc.health.v1`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

impl Grpc {
    async fn ask(&self, at: SocketAddr, stream: tokio::net::TcpStream) -> anyhow::Result<()> {
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_: http::Uri| {
            let taken = stream.take().ok_or_else(|| std::io::Error::other("one probe, one connection"));
            async move { taken }
        });
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{at}"))?;
        let channel = channel.connect_with_connector(connector).await?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await?;
        let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let request = HealthCheckRequest { service: self.service.clone() };
        let answer = client.unary(tonic::Request::new(request), path, codec).await?.into_inner();
        match answer.status {
            SERVING => Ok(()),
            other => bail!("service `{}` has status {other}", self.service),
        }
    }
}

/// The kubelet does not look at certificates either: who asks here only wants to know whether anybody answers.
fn unverified() -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    Ok(Arc::new(config))
}

/// Not `FirstContact`: to check a signature its certificate must be read, and the kubelet takes some that cannot be (version 1).
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
