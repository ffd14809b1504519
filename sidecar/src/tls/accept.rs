//! The server's side of TLS: one context, rebuilt when its secrets change, and the handshake.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ServerSessionMemoryCache};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::choose::Certificates;
use super::context::{CommonTls, Resolved, session_info};
use super::failure::TlsFailure;
use super::secrets::SecretSlot;
use super::verify::{Peer, Verifier};
use crate::io::Io;
use crate::stream::TlsInfo;

/// Source: `DownstreamTlsContext`.
pub struct DownstreamTls {
    pub common: CommonTls,
    pub require_client_certificate: bool,
    pub require_sni: bool,
    /// Session tickets (TLS 1.2 and 1.3).
    pub stateless_resumption: bool,
    /// Session ids (TLS 1.2).
    pub stateful_resumption: bool,
    pub full_scan_certificates: bool,
    pub prefer_client_ciphers: bool,
    pub built: ArcSwapOption<BuiltServer>,
}

/// rustls' configurations for one state of the secrets.
pub struct BuiltServer {
    resolved: Resolved,
    certificates: Arc<Certificates>,
    /// For clients that offer one of our protocols.
    with_alpn: Arc<ServerConfig>,
    /// For all others: no overlap means no protocol, not a failure, as in Envoy.
    without_alpn: Arc<ServerConfig>,
}

impl DownstreamTls {
    /// The secrets that must be fetched before this context can be used.
    pub fn wanted(&self) -> Vec<Arc<SecretSlot>> {
        self.common.wanted()
    }

    pub fn ready(&self) -> bool {
        self.common.ready()
    }

    /// The certificates that are shown now (`/certs`, `%DOWNSTREAM_LOCAL_*%`).
    pub fn resolved(&self) -> Option<Resolved> {
        self.common.resolve()
    }

    fn built(&self) -> Result<Arc<BuiltServer>, TlsFailure> {
        if let Some(built) = self.built.load_full().filter(|built| self.common.current(&built.resolved.versions)) {
            return Ok(built);
        }
        let built = Arc::new(self.build()?);
        if self.built.swap(Some(built.clone())).is_some() {
            self.common.updates_by_sds.inc();
        }
        Ok(built)
    }

    fn build(&self) -> Result<BuiltServer, TlsFailure> {
        let resolved = self.common.resolve().filter(|r| !r.identities.is_empty()).ok_or(TlsFailure::NotReady)?;
        let protocol = |error: rustls::Error| TlsFailure::from(&error);
        let provider = self.common.params.provider.clone();
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.common.params.versions())
            .map_err(protocol)?;
        let certificates =
            Arc::new(Certificates { identities: resolved.identities.clone(), full_scan: self.full_scan_certificates });
        let builder = if self.require_client_certificate || resolved.validation.checks_anything() {
            let mandatory = self.require_client_certificate;
            let stats = self.common.stats.clone();
            let verifier = Verifier::new(resolved.validation.clone(), Vec::new(), mandatory, stats, provider);
            builder.with_client_cert_verifier(Arc::new(verifier))
        } else {
            builder.with_no_client_auth()
        };
        let mut config = builder.with_cert_resolver(certificates.clone());
        config.ignore_client_order = !self.prefer_client_ciphers;
        // A ticket of before may stand for a peer that today's rules refuse: each build has keys of its own.
        match self.stateless_resumption {
            true => config.ticketer = Ticketer::new().map_err(protocol)?,
            false => config.send_tls13_tickets = 0,
        }
        config.session_storage = match self.stateful_resumption {
            true => ServerSessionMemoryCache::new(1024),
            false => Arc::new(NoServerSessionStorage {}),
        };
        let without_alpn = Arc::new(config.clone());
        config.alpn_protocols = self.common.alpn.clone();
        Ok(BuiltServer { resolved, certificates, with_alpn: Arc::new(config), without_alpn })
    }

    /// Performs the handshake. The caller limits its time.
    ///
    /// # Errors
    /// No session; the failure has been counted.
    pub async fn accept<IO: Io>(&self, io: IO) -> Result<(TlsStream<IO>, Arc<TlsInfo>), TlsFailure> {
        let done = self.handshake(io).await;
        if let Err(failure) = &done {
            self.count(failure);
        }
        done
    }

    fn count(&self, failure: &TlsFailure) {
        match failure {
            TlsFailure::NotReady => self.common.secrets_not_ready.inc(),
            TlsFailure::NoCertificate => self.common.stats.fail_verify_no_cert.inc(),
            _ if failure.counts_as_connection_error() => self.common.stats.connection_error.inc(),
            _ => {}
        }
    }

    async fn handshake<IO: Io>(&self, io: IO) -> Result<(TlsStream<IO>, Arc<TlsInfo>), TlsFailure> {
        let built = self.built()?;
        let start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
        let hello = start.client_hello();
        let sni = hello.server_name().unwrap_or("").to_owned();
        if self.require_sni && sni.is_empty() {
            return Err(TlsFailure::Protocol("TLS_error:|no SNI, which is required:TLS_error_end".to_owned()));
        }
        let local = built.certificates.choose(&hello).map(|identity| identity.facts.clone());
        let config = if overlaps(&hello, &self.common.alpn) { &built.with_alpn } else { &built.without_alpn };
        let stream = start.into_stream(config.clone()).await?;
        let (_, connection) = stream.get_ref();
        let info = session_info(connection, &built.resolved, &self.common.stats, Peer::Client, &sni, local);
        Ok((stream, info))
    }
}

fn overlaps(hello: &ClientHello<'_>, ours: &[Vec<u8>]) -> bool {
    hello.alpn().is_some_and(|mut offered| offered.any(|protocol| ours.iter().any(|own| own == protocol)))
}
