//! Who is calling: by a join token, by a token that the API server judges, or by a certificate of the mesh that was shown in the TLS
//! handshake.

use std::time::SystemTime;

use api::Key;
use tonic::metadata::MetadataMap;
use tonic::transport::CertificateDer;

use super::kubernetes::TokenReviews;
use super::token::TokenError;
use super::{Authority, Ca};

/// What a caller has proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing was shown.
    None,
    /// It is this service account.
    Account(Key),
}

/// Something was shown that is not believed. What is wrong with it is for logs only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was good once. Who has been here before may go on, but gets nothing that needs proof.
    #[error("the token has expired")]
    Expired,
    /// It never was.
    #[error("{0}")]
    Bad(String),
    /// It cannot be told now.
    #[error("{0}")]
    Unknown(String),
}

impl From<Refused> for tonic::Status {
    /// Says nothing of the reason to who is refused.
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Expired | Refused::Bad(_) => Self::unauthenticated("who is asking is not known"),
            Refused::Unknown(_) => Self::unavailable("who is asking cannot be told now"),
        }
    }
}

/// Decides who is believed.
#[derive(Clone, Debug)]
pub struct Prover {
    authority: Authority,
    reviews: Option<TokenReviews>,
}

impl Prover {
    /// By this authority's join tokens and certificates, and by these reviews.
    #[must_use]
    pub const fn new(authority: Authority, reviews: Option<TokenReviews>) -> Self {
        Self { authority, reviews }
    }

    /// What the caller of a request has proven. `certificates` were verified against the mesh's roots by TLS.
    ///
    /// # Errors
    /// When what is shown is not believed.
    pub async fn proof(
        &self,
        metadata: &MetadataMap,
        certificates: Option<&[CertificateDer<'_>]>,
        own_domain: &str,
    ) -> Result<Proof, Refused> {
        let ca = self.authority.borrow().clone();
        let join = Proof::of(&ca, metadata, certificates, own_domain);
        let (Err(Refused::Bad(_)), Some(reviews), Ok(Some(token))) = (&join, &self.reviews, bearer(metadata)) else {
            return join;
        };
        reviews.account(token).await.map(Proof::Account)
    }
}

/// The token that is shown.
fn bearer(metadata: &MetadataMap) -> Result<Option<&str>, Refused> {
    let Some(header) = metadata.get("authorization") else { return Ok(None) };
    let token = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
    token.map(|token| Some(token.trim())).ok_or_else(|| Refused::Bad("authorization is no Bearer token".to_owned()))
}

impl Proof {
    /// What the caller of a request has proven. `certificates` were verified against the mesh's roots by TLS. Only
    /// those of the mesh's own domain prove one of its accounts: a domain that is merely trusted names accounts of its
    /// own. A token that has expired stands in nobody's way: a good certificate beside it proves as much.
    ///
    /// # Errors
    /// When what is shown is not believed.
    pub fn of(
        ca: &Ca,
        metadata: &MetadataMap,
        certificates: Option<&[CertificateDer<'_>]>,
        own_domain: &str,
    ) -> Result<Self, Refused> {
        let by_certificate = || Self::of_certificate(certificates.and_then(<[_]>::first), own_domain);
        match Self::of_token(ca, metadata) {
            Ok(Self::None) => by_certificate(),
            Err(Refused::Expired) => match by_certificate() {
                Ok(Self::Account(account)) => Ok(Self::Account(account)),
                _ => Err(Refused::Expired),
            },
            told => told,
        }
    }

    fn of_token(ca: &Ca, metadata: &MetadataMap) -> Result<Self, Refused> {
        let Some(token) = bearer(metadata)? else { return Ok(Self::None) };
        let account = ca.tokens().verify(token, SystemTime::now());
        account.map(Self::Account).map_err(|error| match error {
            TokenError::Expired => Refused::Expired,
            other => Refused::Bad(other.to_string()),
        })
    }

    fn of_certificate(leaf: Option<&CertificateDer<'_>>, own_domain: &str) -> Result<Self, Refused> {
        let Some(leaf) = leaf else { return Ok(Self::None) };
        let id = identity(leaf).ok_or_else(|| Refused::Bad("the certificate has no SPIFFE id".to_owned()))?;
        if id.trust_domain != own_domain {
            return Err(Refused::Bad(format!("the certificate is of trust domain {}", id.trust_domain)));
        }
        Ok(Self::Account(Key::new(id.namespace, id.service_account)))
    }
}

/// The one SPIFFE id of a certificate. Source: X509-SVID, section 2.
fn identity(leaf: &[u8]) -> Option<xds::SpiffeId> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        x509_parser::extensions::GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let only = uris.next().filter(|_| uris.next().is_none())?;
    only.parse().ok()
}
