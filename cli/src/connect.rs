//! Connections to a pilot's xDS address, which may be the plain or the secure one: found out by asking.
//!
//! The first contact with a secure address cannot be verified, for the roots are what is asked for. They are told by the
//! answer, and everything that is sent later is sent under them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::TokioIo;
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

const TIMEOUT: Duration = Duration::from_secs(5);

/// A channel, and whether it is over TLS.
pub(crate) struct Pilot {
    pub(crate) channel: Channel,
    pub(crate) tls: bool,
}

/// Connects to `HOST:PORT`.
pub(crate) async fn pilot(address: &str) -> anyhow::Result<Pilot> {
    let tls = speaks_tls(address).await.with_context(|| format!("no pilot at {address}"))?;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.connect_timeout(TIMEOUT).timeout(TIMEOUT);
    let channel = if tls {
        let address = address.to_owned();
        let connector = tower::service_fn(move |_| unverified(address.clone()));
        endpoint.connect_with_connector(connector).await
    } else {
        endpoint.connect().await
    };
    Ok(Pilot { channel: channel.with_context(|| format!("no pilot at {address}"))?, tls })
}

/// Whether a server answers to TLS: a plain gRPC server does not.
async fn speaks_tls(address: &str) -> std::io::Result<bool> {
    let tcp = tokio::time::timeout(TIMEOUT, TcpStream::connect(address)).await??;
    Ok(matches!(tokio::time::timeout(TIMEOUT, handshake(tcp, address)).await, Ok(Ok(_))))
}

async fn unverified(address: String) -> std::io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let tcp = TcpStream::connect(&address).await?;
    handshake(tcp, &address).await.map(TokioIo::new)
}

async fn handshake(tcp: TcpStream, address: &str) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut config = first_contact().map_err(std::io::Error::other)?.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// A client that cannot verify its server yet.
pub(crate) fn first_contact() -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(FirstContact(provider))))
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
struct FirstContact(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for FirstContact {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
