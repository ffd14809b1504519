//! Is the peer's certificate to be trusted? One verifier for both sides: chain, trust domain, names
//! and fingerprints. This is the only module that uses rustls' `danger` interfaces.
//!
//! Source: Envoy's `DefaultCertValidator` and `SPIFFEValidator`. A peer that fails any check that is
//! configured is refused; only `ACCEPT_UNTRUSTED` lets it pass, marked as not validated.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::certificate::{facts_of, other_names, sha256, spki_sha256};
use super::stats::SslStats;
use crate::stream::CertificateFacts;

/// Certificates that are trusted to issue others.
#[derive(Debug)]
pub struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    subjects: Vec<DistinguishedName>,
}

impl Roots {
    /// # Errors
    /// The number of the first certificate that can't be a trust anchor, with why.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Roots, String> {
        let mut anchors = Vec::with_capacity(certificates.len());
        for (at, certificate) in certificates.iter().enumerate() {
            let anchor = webpki::anchor_from_trusted_cert(certificate)
                .map_err(|e| format!("certificate {} is malformed: {e:?}", at + 1))?;
            anchors.push(anchor.to_owned());
        }
        let subjects = anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect();
        Ok(Roots { certificates, anchors, subjects })
    }

    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

/// The kind of name a matcher looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SanKind {
    Email,
    Dns,
    Uri,
    Ip,
    /// `otherName` with this OID.
    Other(String),
}

/// Tests a text; compiled from a `StringMatcher`.
pub type TextMatch = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Source: `SubjectAltNameMatcher`.
#[derive(Clone)]
pub struct SanMatcher {
    pub kind: SanKind,
    pub matches: TextMatch,
    /// The whole text where the matcher is `exact`: a DNS SAN may match it by wildcard.
    pub exact: Option<String>,
}

impl SanMatcher {
    /// A name of this kind that is exactly `text`.
    pub fn exact(kind: SanKind, text: &str) -> Self {
        let wanted = text.to_owned();
        SanMatcher { kind, matches: Arc::new(move |name| name == wanted), exact: Some(text.to_owned()) }
    }

    fn accepts(&self, facts: &CertificateFacts, der: &CertificateDer<'_>) -> bool {
        let any = |names: &[String]| names.iter().any(|name| (self.matches)(name));
        match &self.kind {
            SanKind::Email => any(&facts.email_sans),
            SanKind::Uri => any(&facts.uri_sans),
            SanKind::Ip => any(&facts.ip_sans),
            SanKind::Dns => match &self.exact {
                Some(exact) => facts.dns_sans.iter().any(|san| dns_name_match(exact, san)),
                None => any(&facts.dns_sans),
            },
            SanKind::Other(oid) => other_names(der).iter().any(|(own, value)| own == oid && (self.matches)(value)),
        }
    }
}

impl std::fmt::Debug for SanMatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SanMatcher({:?}, {:?})", self.kind, self.exact)
    }
}

/// Does a certificate's DNS name cover `name`? A wildcard stands for one whole leftmost label.
/// Source: Envoy's `Utility::dnsNameMatch`.
pub fn dns_name_match(name: &str, pattern: &str) -> bool {
    if name.eq_ignore_ascii_case(pattern) {
        return true;
    }
    let (Some(suffix), Some((_, rest))) = (pattern.strip_prefix("*."), name.split_once('.')) else { return false };
    !suffix.is_empty() && rest.eq_ignore_ascii_case(suffix)
}

/// The roots of each trust domain.
pub type TrustDomains = Vec<(String, Arc<Roots>)>;

/// What a peer's certificate must satisfy. Source: `CertificateValidationContext`.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    pub roots: Option<Arc<Roots>>,
    /// SPIFFE: trust domain → its roots. Source: `SPIFFECertValidatorConfig`.
    pub trust_domains: Option<Arc<TrustDomains>>,
    pub sans: Vec<SanMatcher>,
    /// SHA-256 of the certificate.
    pub hashes: Vec<[u8; 32]>,
    /// SHA-256 of the public key info.
    pub spkis: Vec<[u8; 32]>,
    pub crls: Option<Arc<Vec<OwnedCertRevocationList>>>,
    pub only_verify_leaf_crl: bool,
    pub allow_expired: bool,
    pub accept_untrusted: bool,
    /// Most intermediates in a chain.
    pub max_depth: Option<u32>,
    /// Don't tell clients which authorities are trusted.
    pub suppress_ca_list: bool,
}

impl Validation {
    /// `self` with what `other` sets written over or added. Source: protobuf's `MergeFrom`, as for
    /// `combined_validation_context`.
    #[must_use]
    pub fn merged(&self, other: &Validation) -> Validation {
        let mut all = self.clone();
        all.roots = other.roots.clone().or(all.roots);
        all.trust_domains = other.trust_domains.clone().or(all.trust_domains);
        all.sans.extend(other.sans.iter().cloned());
        all.hashes.extend(&other.hashes);
        all.spkis.extend(&other.spkis);
        all.crls = other.crls.clone().or(all.crls);
        all.only_verify_leaf_crl |= other.only_verify_leaf_crl;
        all.allow_expired |= other.allow_expired;
        all.accept_untrusted |= other.accept_untrusted;
        all.max_depth = other.max_depth.or(all.max_depth);
        all.suppress_ca_list |= other.suppress_ca_list;
        all
    }

    /// Is there anything that could fail?
    pub fn checks_anything(&self) -> bool {
        self.roots.is_some()
            || self.trust_domains.is_some()
            || !self.sans.is_empty()
            || !self.hashes.is_empty()
            || !self.spkis.is_empty()
    }

    /// Is this validation safe to use? Names say nothing where nobody vouches for them.
    ///
    /// # Errors
    /// Envoy's words.
    pub fn consistent(&self) -> Result<(), &'static str> {
        if self.roots.is_some() || self.trust_domains.is_some() {
            return Ok(());
        }
        if !self.sans.is_empty() {
            return Err("SAN-based verification of peer certificates without trusted CA is insecure and not allowed");
        }
        if self.allow_expired {
            return Err("Certificate validity period is always ignored without trusted CA");
        }
        if self.crls.is_some() {
            return Err("Failed to load CRL without trusted CA");
        }
        Ok(())
    }
}

/// Which side of the handshake the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Client,
    Server,
}

/// Why a certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("verify cert failed: X509_verify_cert: {0}")]
    Chain(String),
    #[error("verify cert failed: verify SAN list")]
    Names,
    #[error("verify cert failed: cert hash and spki")]
    Fingerprint,
}

/// Checks a peer's chain, leaf first. `extra` is a name that the leaf must have besides
/// (`auto_sni_san_validation`, or what a transport socket option asks for).
///
/// # Errors
/// The first check that failed.
pub fn verify(
    validation: &Validation,
    extra: &[SanMatcher],
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    peer: Peer,
    now: UnixTime,
) -> Result<(), Refused> {
    let facts = facts_of(leaf).ok_or_else(|| Refused::Chain("malformed certificate".into()))?;
    let roots = match &validation.trust_domains {
        Some(domains) => Some(spiffe_roots(domains, &facts)?),
        None => validation.roots.as_ref(),
    };
    if let Some(roots) = roots {
        verify_chain(validation, roots, leaf, intermediates, peer, now)?;
    }
    let names = if extra.is_empty() { &validation.sans[..] } else { extra };
    if !names.is_empty() && !names.iter().any(|matcher| matcher.accepts(&facts, leaf)) {
        return Err(Refused::Names);
    }
    verify_fingerprint(validation, leaf)
}

/// SPIFFE X.509-SVID, section 2: exactly one URI SAN, whose authority is the trust domain.
fn spiffe_roots<'a>(domains: &'a [(String, Arc<Roots>)], facts: &CertificateFacts) -> Result<&'a Arc<Roots>, Refused> {
    let [uri] = &facts.uri_sans[..] else {
        return Err(Refused::Chain("certificate has not exactly one URI SAN".into()));
    };
    let domain = uri
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.split('/').next())
        .filter(|domain| !domain.is_empty())
        .ok_or_else(|| Refused::Chain("the URI SAN is no SPIFFE ID".into()))?;
    let found = domains.iter().find(|(own, _)| own == domain);
    found.map(|(_, roots)| roots).ok_or_else(|| Refused::Chain(format!("no trust bundle for trust domain {domain}")))
}

fn verify_chain(
    validation: &Validation,
    roots: &Roots,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    peer: Peer,
    now: UnixTime,
) -> Result<(), Refused> {
    let refused = |error: webpki::Error| Refused::Chain(chain_words(&error));
    let attempt = |now| build_chain(validation, roots, leaf, intermediates, peer, now);
    let first = match attempt(now) {
        Err(error) if expired(&error) && validation.allow_expired => {
            let facts = facts_of(leaf).ok_or_else(|| refused(error))?;
            // A chain that held at either end of the leaf's own time counts.
            let at = |seconds: i64| UnixTime::since_unix_epoch(Duration::from_secs(seconds.max(0).unsigned_abs()));
            attempt(at(facts.not_before)).or_else(|_| attempt(at(facts.not_after)))
        }
        other => other,
    };
    first.map_err(refused)
}

fn build_chain(
    validation: &Validation,
    roots: &Roots,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    peer: Peer,
    now: UnixTime,
) -> Result<(), webpki::Error> {
    // A certificate that is trusted itself needs no issuer (partial chains).
    if roots.certificates.iter().any(|root| root.as_ref() == leaf.as_ref()) {
        return valid_at(leaf, now);
    }
    let usage = match peer {
        Peer::Client => KeyUsage::client_auth(),
        Peer::Server => KeyUsage::server_auth(),
    };
    let lists: Vec<CertRevocationList<'_>>;
    let borrowed: Vec<&CertRevocationList<'_>>;
    let revocation = match &validation.crls {
        None => None,
        Some(crls) => {
            lists = crls.iter().cloned().map(CertRevocationList::from).collect();
            borrowed = lists.iter().collect();
            let depth = match validation.only_verify_leaf_crl {
                true => RevocationCheckDepth::EndEntity,
                false => RevocationCheckDepth::Chain,
            };
            let builder =
                RevocationOptionsBuilder::new(&borrowed).map_err(|_| webpki::Error::UnknownRevocationStatus)?;
            Some(builder.with_depth(depth).with_status_policy(UnknownStatusPolicy::Deny).build())
        }
    };
    let end_entity = EndEntityCert::try_from(leaf)?;
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let path = end_entity.verify_for_usage(algorithms, &roots.anchors, intermediates, now, usage, revocation, None)?;
    match validation.max_depth {
        Some(most) if path.intermediate_certificates().count() > most as usize => {
            Err(webpki::Error::MaximumPathDepthExceeded)
        }
        _ => Ok(()),
    }
}

fn valid_at(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), webpki::Error> {
    let facts = facts_of(leaf).ok_or(webpki::Error::BadDer)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds < facts.not_before || seconds > facts.not_after {
        return Err(webpki::Error::InvalidCertValidity);
    }
    Ok(())
}

fn expired(error: &webpki::Error) -> bool {
    use webpki::Error as E;
    matches!(error, E::CertExpired { .. } | E::CertNotValidYet { .. } | E::InvalidCertValidity)
}

/// OpenSSL's words for why a chain failed, where it has a pair to webpki's.
fn chain_words(error: &webpki::Error) -> String {
    use webpki::Error as E;
    let words = match error {
        E::CertExpired { .. } | E::InvalidCertValidity => "certificate has expired",
        E::CertNotValidYet { .. } => "certificate is not yet valid",
        E::UnknownIssuer => "unable to get local issuer certificate",
        E::CertRevoked => "certificate revoked",
        E::UnknownRevocationStatus => "unable to get certificate CRL",
        E::CaUsedAsEndEntity | E::RequiredEkuNotFoundContext(_) => "unsuitable certificate purpose",
        E::PathLenConstraintViolated => "path length constraint exceeded",
        E::MaximumPathDepthExceeded => "certificate chain too long",
        E::EndEntityUsedAsCa => "invalid CA certificate",
        E::InvalidSignatureForPublicKey => "certificate signature failure",
        other => return format!("certificate verification error: {other:?}"),
    };
    format!("certificate verification error at depth 0: {words}")
}

fn verify_fingerprint(validation: &Validation, leaf: &CertificateDer<'_>) -> Result<(), Refused> {
    if validation.hashes.is_empty() && validation.spkis.is_empty() {
        return Ok(());
    }
    let by_hash = sha256(leaf).is_some_and(|hash| validation.hashes.contains(&hash));
    let by_key = || spki_sha256(leaf).is_some_and(|hash| validation.spkis.contains(&hash));
    if by_hash || by_key() { Ok(()) } else { Err(Refused::Fingerprint) }
}

/// A certificate revocation list from PEM or DER.
///
/// # Errors
/// It can't be read.
pub fn revocation_list(der: &[u8]) -> Result<OwnedCertRevocationList, String> {
    let list = BorrowedCertRevocationList::from_der(der).map_err(|e| format!("{e:?}"))?;
    list.to_owned().map_err(|e| format!("{e:?}"))
}

/// rustls' view of a [`Validation`].
pub struct Verifier {
    validation: Arc<Validation>,
    /// A name asked for by this connection's own options.
    extra: Vec<SanMatcher>,
    /// Server side: must a client show a certificate?
    mandatory: bool,
    stats: Arc<SslStats>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub fn new(
        validation: Arc<Validation>,
        extra: Vec<SanMatcher>,
        mandatory: bool,
        stats: Arc<SslStats>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Verifier { validation, extra, mandatory, stats, provider }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        peer: Peer,
        now: UnixTime,
    ) -> Result<(), Error> {
        let Err(refused) = verify(&self.validation, &self.extra, leaf, intermediates, peer, now) else {
            return Ok(());
        };
        match refused {
            Refused::Chain(_) => self.stats.fail_verify_error.inc(),
            Refused::Names => self.stats.fail_verify_san.inc(),
            Refused::Fingerprint => self.stats.fail_verify_cert_hash.inc(),
        }
        if self.validation.accept_untrusted {
            return Ok(());
        }
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused)))))
    }

    fn signed(&self, dss: &DigitallySignedStruct, valid: Result<HandshakeSignatureValid, Error>) -> SignatureResult {
        if valid.is_ok() {
            self.stats.signed(dss.scheme);
        }
        valid
    }
}

type SignatureResult = Result<HandshakeSignatureValid, Error>;

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.validation.roots {
            Some(roots) if !self.validation.suppress_ca_list => &roots.subjects,
            _ => &[],
        }
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, intermediates, Peer::Client, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, m: &[u8], c: &CertificateDer<'_>, d: &DigitallySignedStruct) -> SignatureResult {
        self.signed(d, verify_tls12_signature(m, c, d, &self.provider.signature_verification_algorithms))
    }

    fn verify_tls13_signature(&self, m: &[u8], c: &CertificateDer<'_>, d: &DigitallySignedStruct) -> SignatureResult {
        self.signed(d, verify_tls13_signature(m, c, d, &self.provider.signature_verification_algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, intermediates, Peer::Server, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, m: &[u8], c: &CertificateDer<'_>, d: &DigitallySignedStruct) -> SignatureResult {
        self.signed(d, verify_tls12_signature(m, c, d, &self.provider.signature_verification_algorithms))
    }

    fn verify_tls13_signature(&self, m: &[u8], c: &CertificateDer<'_>, d: &DigitallySignedStruct) -> SignatureResult {
        self.signed(d, verify_tls13_signature(m, c, d, &self.provider.signature_verification_algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A client configuration that asks this verifier. Here because rustls calls it dangerous.
pub fn client_config_with(
    builder: rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>,
    verifier: Arc<Verifier>,
) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    builder.dangerous().with_custom_certificate_verifier(verifier)
}

/// The same client configuration with another verifier.
pub fn client_config_verified_by(config: &rustls::ClientConfig, verifier: Arc<Verifier>) -> Arc<rustls::ClientConfig> {
    let mut config = config.clone();
    config.dangerous().set_certificate_verifier(verifier);
    Arc::new(config)
}
