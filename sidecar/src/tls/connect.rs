//! The client's side of TLS: one context, rebuilt when its secrets change, and the handshake.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::context::{CommonTls, Resolved, session_info};
use super::failure::TlsFailure;
use super::secrets::SecretSlot;
use super::verify::{Peer, SanKind, SanMatcher, Verifier, client_config_verified_by, client_config_with};
use crate::io::Io;
use crate::stream::TlsInfo;

/// Source: `UpstreamTlsContext`.
pub struct UpstreamTls {
    pub common: CommonTls,
    /// The name to ask for; empty: none.
    pub sni: String,
    /// Ask for the host's own name instead.
    pub auto_host_sni: bool,
    /// The certificate must be for the name asked for.
    pub auto_sni_san_validation: bool,
    /// Sessions kept for resumption; 0: none.
    pub max_session_keys: usize,
    pub built: ArcSwapOption<BuiltClient>,
}

/// rustls' configuration for one state of the secrets.
pub struct BuiltClient {
    resolved: Resolved,
    config: Arc<ClientConfig>,
}

/// What one connection asks for besides what its context says.
/// Source: Envoy's `Network::TransportSocketOptions`.
#[derive(Clone, Debug, Default)]
pub struct TlsRequest {
    /// A name that goes before the context's (`auto_sni` of the cluster's HTTP options).
    pub sni: Option<String>,
    /// The host's `hostname`, for `auto_host_sni`.
    pub hostname: Option<String>,
    /// Protocols that go before the context's own.
    pub alpn: Vec<Vec<u8>>,
    /// Protocols for contexts that have none: what the cluster's HTTP options speak.
    pub alpn_fallback: Vec<Vec<u8>>,
    /// Names one of which the certificate must have, instead of the context's.
    pub names: Vec<SanMatcher>,
}

impl TlsRequest {
    /// For who will speak this protocol, unless the context says otherwise.
    pub fn speaking(protocol: &[u8]) -> Self {
        TlsRequest { alpn_fallback: vec![protocol.to_vec()], ..TlsRequest::default() }
    }
}

impl UpstreamTls {
    /// The secrets that must be fetched before this context can be used.
    pub fn wanted(&self) -> Vec<Arc<SecretSlot>> {
        self.common.wanted()
    }

    pub fn ready(&self) -> bool {
        self.common.ready()
    }

    /// The certificate and authorities in use now (`/certs`).
    pub fn resolved(&self) -> Option<Resolved> {
        self.common.resolve()
    }

    /// Counts up when secrets change: connections of before have another identity.
    pub fn generation(&self) -> u64 {
        self.common.certificates.iter().chain(&self.common.validation_slot).map(|slot| slot.version()).sum()
    }

    fn built(&self) -> Result<Arc<BuiltClient>, TlsFailure> {
        if let Some(built) = self.built.load_full().filter(|built| self.common.current(&built.resolved.versions)) {
            return Ok(built);
        }
        let built = Arc::new(self.build()?);
        if self.built.swap(Some(built.clone())).is_some() {
            self.common.updates_by_sds.inc();
        }
        Ok(built)
    }

    fn build(&self) -> Result<BuiltClient, TlsFailure> {
        let resolved = self.common.resolve().ok_or(TlsFailure::NotReady)?;
        let builder = ClientConfig::builder_with_provider(self.common.params.provider.clone())
            .with_protocol_versions(self.common.params.versions())
            .map_err(|error| TlsFailure::from(&error))?;
        let builder = client_config_with(builder, self.verifier(&resolved, Vec::new()));
        let mut config = match resolved.identities.first() {
            Some(identity) => {
                let single = SingleCertAndKey::from((*identity.certified).clone());
                builder.with_client_cert_resolver(Arc::new(single))
            }
            None => builder.with_no_client_auth(),
        };
        // Sessions are kept with the configuration: a change of secrets forgets them.
        config.resumption = match self.max_session_keys {
            0 => Resumption::disabled(),
            keys => Resumption::in_memory_sessions(keys),
        };
        Ok(BuiltClient { resolved, config: Arc::new(config) })
    }

    fn verifier(&self, resolved: &Resolved, names: Vec<SanMatcher>) -> Arc<Verifier> {
        let (stats, provider) = (self.common.stats.clone(), self.common.params.provider.clone());
        Arc::new(Verifier::new(resolved.validation.clone(), names, false, stats, provider))
    }

    /// The name to ask for; empty: none.
    pub fn server_name<'a>(&'a self, request: &'a TlsRequest) -> &'a str {
        match (&request.sni, &request.hostname) {
            (Some(sni), _) => sni,
            (None, Some(hostname)) if self.auto_host_sni && !hostname.is_empty() => hostname,
            _ => &self.sni,
        }
    }

    fn protocols<'a>(&'a self, request: &'a TlsRequest) -> &'a [Vec<u8>] {
        match () {
            () if !request.alpn.is_empty() => &request.alpn,
            () if !self.common.alpn.is_empty() => &self.common.alpn,
            () => &request.alpn_fallback,
        }
    }

    /// Performs the handshake. The caller limits its time.
    ///
    /// # Errors
    /// No session; the failure has been counted.
    pub async fn connect<IO: Io>(
        &self,
        io: IO,
        request: &TlsRequest,
    ) -> Result<(TlsStream<IO>, Arc<TlsInfo>), TlsFailure> {
        let done = self.handshake(io, request).await;
        match &done {
            Err(TlsFailure::NotReady) => self.common.secrets_not_ready.inc(),
            Err(failure) if failure.counts_as_connection_error() => self.common.stats.connection_error.inc(),
            _ => {}
        }
        done
    }

    async fn handshake<IO: Io>(
        &self,
        io: IO,
        request: &TlsRequest,
    ) -> Result<(TlsStream<IO>, Arc<TlsInfo>), TlsFailure> {
        let built = self.built()?;
        let sni = self.server_name(request);
        let name = match ServerName::try_from(sni.to_owned()) {
            Ok(name @ ServerName::DnsName(_)) => name,
            // An address is never sent as a server name (RFC 6066, section 3); this one stands for "none".
            _ => ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        let mut names = request.names.clone();
        if names.is_empty() && self.auto_sni_san_validation && !sni.is_empty() {
            let kind = if sni.parse::<IpAddr>().is_ok() { SanKind::Ip } else { SanKind::Dns };
            names.push(SanMatcher::exact(kind, sni));
        }
        let config = match names.is_empty() {
            true => built.config.clone(),
            false => client_config_verified_by(&built.config, self.verifier(&built.resolved, names)),
        };
        let connector = TlsConnector::from(config);
        let stream = connector.with_alpn(self.protocols(request).to_vec()).connect(name, io).await?;
        let (_, connection) = stream.get_ref();
        let local = built.resolved.identities.first().map(|identity| identity.facts.clone());
        let info = session_info(connection, &built.resolved, &self.common.stats, Peer::Server, sni, local);
        Ok((stream, info))
    }
}
