//! The certificate authority: a root of the mesh's own in the state folder, and leaves for identities that were proven.
//!
//! What a CSR asks for is ignored but for its public key.

pub mod kubernetes;
mod proof;
pub mod rotate;
mod service;
mod state;
pub mod token;
mod watch;

use std::path::Path;
use std::time::{Duration, SystemTime};

use api::Key;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};

pub use proof::{Proof, Prover, Refused};
pub use service::CertificateService;
pub use watch::{Authority, watch};

/// How long a leaf lives unless less is asked for.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long before now it begins, for clocks that differ.
const BACKDATED: Duration = Duration::from_secs(120);

/// Why the CA cannot work.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of the state folder.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A key or certificate that cannot be made or read.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// Something that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The key is not the certificate's.
    #[error("ca-key.pem is not the key of the first certificate in cert-chain.pem")]
    Mismatch,
    /// The join tokens' key is none.
    #[error("token-key is no key")]
    TokenKey,
    /// A name that cannot stand in a certificate.
    #[error("`{0}` cannot stand in a certificate")]
    Name(String),
}

/// The authority, with its key in memory.
#[derive(Debug)]
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    /// PEM: the issuer and those above it, the root last.
    chain: Vec<String>,
    /// PEM of every root of its own.
    roots: String,
    /// PEM of every root that is trusted in the mesh: its own and others'.
    trusted: String,
    tokens: token::Tokens,
}

/// A leaf with what a peer needs to verify it. PEM.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The leaf first, the root last.
    pub chain: Vec<String>,
    /// When it ends.
    pub not_after: SystemTime,
}

impl Ca {
    /// Opens the authority of a state folder, or makes one there.
    ///
    /// # Errors
    /// When the folder cannot be read or written, or holds what is no key or certificate.
    pub fn open(folder: &Path) -> Result<Self, CaError> {
        let files = state::open(folder)?;
        Self::new(files, token::Tokens::open(folder)?)
    }

    fn new(files: state::Files, tokens: token::Tokens) -> Result<Self, CaError> {
        let key = KeyPair::from_pem(&files.key)?;
        let first = files.chain.first().cloned().unwrap_or_else(|| files.roots.clone());
        if !belongs(&first, &key) {
            return Err(CaError::Mismatch);
        }
        let issuer = Issuer::from_ca_cert_pem(&first, key)?;
        Ok(Self { issuer, chain: files.chain, trusted: files.roots.clone(), roots: files.roots, tokens })
    }

    /// The same authority in a mesh where certificates of other roots, in PEM, are good too.
    #[must_use]
    pub(crate) fn trusting(self, others: &str) -> Self {
        let mut trusted = state::split(&self.roots);
        for root in state::split(others) {
            if !trusted.contains(&root) {
                trusted.push(root);
            }
        }
        Self { trusted: trusted.concat(), ..self }
    }

    /// Whether it signs and trusts as another does.
    fn same(&self, other: &Self) -> bool {
        self.chain == other.chain && self.roots == other.roots && self.trusted == other.trusted
    }

    /// PEM of every root of its own: what the pilot's own servers are verified by.
    #[must_use]
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// PEM of every root that is trusted in the mesh: what proxies are verified by.
    #[must_use]
    pub fn trusted(&self) -> &str {
        &self.trusted
    }

    /// PEM of the certificate that signs.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.chain.first().unwrap_or(&self.roots)
    }

    /// The join tokens' key.
    #[must_use]
    pub const fn tokens(&self) -> &token::Tokens {
        &self.tokens
    }

    /// Signs a CSR's key for an identity.
    ///
    /// # Errors
    /// When the CSR is none, is not signed by its own key, or its key is too weak.
    pub fn sign_csr(&self, csr: &str, trust_domain: &str, account: &Key, lifetime: Duration) -> Result<Leaf, CaError> {
        let request = rcgen::CertificateSigningRequestParams::from_pem(csr)?;
        self.sign(&request.public_key, vec![uri(trust_domain, account)?], lifetime)
    }

    /// Makes a key and a leaf for an identity, for clients that cannot make their own. The key in PEM comes first.
    ///
    /// # Errors
    /// When the names cannot stand in a certificate.
    pub fn make(&self, trust_domain: &str, account: &Key) -> Result<(String, Leaf), CaError> {
        let key = KeyPair::generate()?;
        let leaf = self.sign(&key, vec![uri(trust_domain, account)?], LIFETIME)?;
        Ok((key.serialize_pem(), leaf))
    }

    /// Makes a key and a leaf for a server of the pilot's own.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn make_server(&self, names: &[String]) -> Result<(String, Leaf), CaError> {
        let key = KeyPair::generate()?;
        let san = |name: &String| match name.parse() {
            Ok(ip) => Ok(SanType::IpAddress(ip)),
            Err(_) => name.as_str().try_into().map(SanType::DnsName).map_err(|_| CaError::Name(name.clone())),
        };
        let leaf = self.sign(&key, names.iter().map(san).collect::<Result<_, _>>()?, LIFETIME * 30)?;
        Ok((key.serialize_pem(), leaf))
    }

    fn sign(&self, key: &impl PublicKeyData, names: Vec<SanType>, lifetime: Duration) -> Result<Leaf, CaError> {
        let now = SystemTime::now();
        let not_after = now + lifetime;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - BACKDATED).into();
        params.not_after = not_after.into();
        let leaf = params.signed_by(key, &self.issuer)?;
        let chain = std::iter::once(leaf.pem()).chain(self.chain.iter().cloned()).collect();
        Ok(Leaf { chain, not_after })
    }
}

/// Whether a certificate in PEM is for this key.
fn belongs(certificate: &str, key: &KeyPair) -> bool {
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()) else { return false };
    pem.parse_x509()
        .is_ok_and(|certificate| certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw())
}

fn uri(trust_domain: &str, account: &Key) -> Result<SanType, CaError> {
    let id = xds::SpiffeId::new(trust_domain, &account.namespace, &account.name).to_string();
    // What is no SPIFFE id is never signed, whoever asks.
    id.parse::<xds::SpiffeId>().map_err(|_| CaError::Name(id.clone()))?;
    id.as_str().try_into().map(SanType::URI).map_err(|_| CaError::Name(id.clone()))
}

#[cfg(test)]
mod tests;
