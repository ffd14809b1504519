//! Certificates by SDS: roots for everyone, a certificate with its key only for who has proven the identity in it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use api::Key;
use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate, secret,
};
use parking_lot::Mutex;
use xds::Resource;

use crate::ca::{Authority, CaError, LIFETIME};

/// The certificate of the proxy's own.
pub(super) const CERTIFICATE: &str = "default";
/// The roots that others' certificates must have.
pub(super) const ROOTS: &str = "ROOTCA";

#[derive(Debug)]
struct Made {
    resource: Resource,
    issuer: String,
    renew: SystemTime,
}

/// Makes keys and certificates for clients that cannot make their own, and keeps them in memory while they are good.
#[derive(Debug)]
pub struct Secrets {
    authority: Authority,
    /// By trust domain and account; of which signing certificate, and from when on a new one is to be made.
    made: Mutex<BTreeMap<(String, Key), Made>>,
}

impl Secrets {
    /// Secrets of this authority.
    #[must_use]
    pub fn new(authority: Authority) -> Self {
        Self { authority, made: Mutex::default() }
    }

    /// The roots of the whole mesh.
    #[must_use]
    pub fn roots(&self) -> Resource {
        let ca = self.authority.borrow().clone();
        let context = CertificateValidationContext { trusted_ca: inline(ca.trusted()), ..Default::default() };
        encode(ROOTS, secret::Type::ValidationContext(context), ca.trusted())
    }

    /// The certificate of an identity; a new one from half its life on.
    ///
    /// # Errors
    /// When the identity cannot stand in a certificate.
    pub fn certificate(&self, trust_domain: &str, account: &Key) -> Result<Resource, CaError> {
        let ca = self.authority.borrow().clone();
        let now = SystemTime::now();
        let mut made = self.made.lock();
        let of = (trust_domain.to_owned(), account.clone());
        if let Some(good) = made.get(&of).filter(|made| now < made.renew && made.issuer == ca.issuer()) {
            return Ok(good.resource.clone());
        }
        let (key, leaf) = ca.make(trust_domain, account)?;
        let chain = leaf.chain.concat();
        let certificate =
            TlsCertificate { certificate_chain: inline(&chain), private_key: inline(&key), ..Default::default() };
        let resource = encode(CERTIFICATE, secret::Type::TlsCertificate(certificate), &chain);
        let issuer = ca.issuer().to_owned();
        made.insert(of, Made { resource: resource.clone(), issuer, renew: renewal(leaf.not_after) });
        Ok(resource)
    }
}

/// Half a life before the end, less up to a tenth, so that not all renew at once.
fn renewal(not_after: SystemTime) -> SystemTime {
    not_after - LIFETIME.mul_f64(0.5 + 0.1 * fastrand::f64())
}

fn inline(text: &str) -> Option<DataSource> {
    let specifier = Some(data_source::Specifier::InlineBytes(text.as_bytes().to_vec()));
    Some(DataSource { specifier, ..Default::default() })
}

fn encode(name: &str, kind: secret::Type, made_from: &str) -> Resource {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    made_from.hash(&mut hasher);
    let message = Secret { name: name.to_owned(), r#type: Some(kind) };
    Resource::encode(name, &format!("{:016x}", hasher.finish()), &message)
}
