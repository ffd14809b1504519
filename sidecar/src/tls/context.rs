//! What both sides of TLS have in common: parameters, ALPN, and the slots their certificates and
//! validation come from.

use std::sync::Arc;

use rustls::ConnectionCommon;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::certificate::{Identity, facts_of_chain};
use super::params::{TlsParams, cipher_name, curve_name, version_name};
use super::secrets::SecretSlot;
use super::stats::SslStats;
use super::verify::{Peer, Validation, verify};
use crate::observe::stats::{Counter, Scope};
use crate::stream::{CertificateFacts, TlsInfo};

/// Source: `CommonTlsContext`.
pub struct CommonTls {
    pub params: TlsParams,
    pub alpn: Vec<Vec<u8>>,
    pub certificates: Vec<Arc<SecretSlot>>,
    /// The context's own rules; where `validation_slot` is set, what it holds is merged over them.
    pub validation: Arc<Validation>,
    pub validation_slot: Option<Arc<SecretSlot>>,
    pub stats: Arc<SslStats>,
    pub secrets_not_ready: Counter,
    pub updates_by_sds: Counter,
}

/// The names of a context's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Server,
    Client,
}

/// What a context's secrets hold right now.
pub struct Resolved {
    pub versions: Vec<u64>,
    pub identities: Vec<Arc<Identity>>,
    pub validation: Arc<Validation>,
}

impl CommonTls {
    /// The counters that tell how a context follows its secrets. `scope` is the listener's or cluster's.
    pub fn sds_counters(scope: &Scope, side: Side) -> (Counter, Counter) {
        match side {
            Side::Server => {
                let scope = scope.child("server_ssl_socket_factory");
                (scope.counter("downstream_context_secrets_not_ready"), scope.counter("ssl_context_update_by_sds"))
            }
            Side::Client => {
                let scope = scope.child("client_ssl_socket_factory");
                (scope.counter("upstream_context_secrets_not_ready"), scope.counter("ssl_context_update_by_sds"))
            }
        }
    }

    /// The secrets in use.
    pub fn slots(&self) -> impl Iterator<Item = &Arc<SecretSlot>> {
        self.certificates.iter().chain(&self.validation_slot)
    }

    /// Do these versions belong to what the slots hold now?
    pub fn current(&self, versions: &[u64]) -> bool {
        self.slots().map(|slot| slot.version()).eq(versions.iter().copied())
    }

    /// Have all secrets come?
    pub fn ready(&self) -> bool {
        self.certificates.iter().all(|slot| slot.certificate().is_some())
            && self.validation_slot.as_ref().is_none_or(|slot| slot.validation().is_some())
    }

    /// The secrets that must be fetched before this context can be used.
    pub fn wanted(&self) -> Vec<Arc<SecretSlot>> {
        self.slots().filter(|slot| slot.reference.source.is_some()).cloned().collect()
    }

    /// `None` as long as a secret is missing, or where what came can't be used safely.
    pub fn resolve(&self) -> Option<Resolved> {
        // Versions are read first: a value that changes meanwhile is resolved again at the next handshake.
        let versions = self.slots().map(|slot| slot.version()).collect();
        let identities = self.certificates.iter().map(|slot| slot.certificate()).collect::<Option<Vec<_>>>()?;
        let validation = match &self.validation_slot {
            None => self.validation.clone(),
            Some(slot) => Arc::new(self.validation.merged(&*slot.validation()?)),
        };
        validation.consistent().ok()?;
        Some(Resolved { versions, identities, validation })
    }
}

/// What a completed handshake says about the session; counts it.
pub fn session_info<Data>(
    connection: &ConnectionCommon<Data>,
    resolved: &Resolved,
    stats: &SslStats,
    peer_side: Peer,
    sni: &str,
    local: Option<Arc<CertificateFacts>>,
) -> Arc<TlsInfo> {
    let version = version_name(connection.protocol_version());
    let cipher = connection.negotiated_cipher_suite().map_or("", |suite| cipher_name(suite.suite()));
    let curve = connection.negotiated_key_exchange_group().and_then(|group| curve_name(group.name()));
    stats.handshake.inc();
    if connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        stats.session_reused.inc();
    }
    stats.agreed(version, cipher, curve);
    let chain = connection.peer_certificates().unwrap_or(&[]);
    if chain.is_empty() {
        stats.no_certificate.inc();
    }
    Arc::new(TlsInfo {
        sni: sni.to_owned(),
        alpn: connection.alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned()).unwrap_or_default(),
        version: version.to_owned(),
        cipher: cipher.to_owned(),
        session_id: String::new(),
        peer: facts_of_chain(chain).map(Arc::new),
        peer_validated: validated(chain, &resolved.validation, peer_side),
        local,
    })
}

/// A peer that got this far passed every check, unless untrusted ones are let in too.
fn validated(chain: &[CertificateDer<'_>], validation: &Validation, peer: Peer) -> bool {
    let Some((leaf, intermediates)) = chain.split_first() else { return false };
    if !validation.checks_anything() {
        return false;
    }
    !validation.accept_untrusted || verify(validation, &[], leaf, intermediates, peer, UnixTime::now()).is_ok()
}
