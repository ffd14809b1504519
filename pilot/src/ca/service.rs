//! The CSR API. A refusal says nothing of its reason to who is refused.

use std::time::Duration;

use tonic::{Request, Response, Status, async_trait};
use xds::ca::server::IstioCertificateService;
use xds::ca::{IstioCertificateRequest, IstioCertificateResponse};

use super::{Authority, LIFETIME, Proof, Prover};
use crate::push::Latest;

/// Signs keys for callers who have proven who they are.
#[derive(Debug)]
pub struct CertificateService {
    authority: Authority,
    prover: Prover,
    latest: Latest,
}

impl CertificateService {
    /// `latest` says which trust domain identities are of.
    #[must_use]
    pub const fn new(authority: Authority, prover: Prover, latest: Latest) -> Self {
        Self { authority, prover, latest }
    }
}

#[async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let ca = self.authority.borrow().clone();
        let settings = self.latest.borrow().mesh.settings.clone();
        let certificates = request.peer_certs();
        let shown = certificates.as_ref().map(|certificates| certificates.as_slice());
        let account = match self.prover.proof(request.metadata(), shown, settings.trust_domain.as_str()).await {
            Ok(Proof::Account(account)) => account,
            Ok(Proof::None) => {
                tracing::info!(peer = ?request.remote_addr(), "CSR refused: nothing proven");
                return Err(Status::unauthenticated("who is asking is not known"));
            }
            Err(error) => {
                tracing::warn!(peer = ?request.remote_addr(), %error, "CSR refused");
                return Err(error.into());
            }
        };
        let asked = u64::try_from(request.get_ref().validity_duration).ok().filter(|seconds| *seconds > 0);
        let lifetime = asked.map_or(LIFETIME, |seconds| Duration::from_secs(seconds).min(LIFETIME));
        let domain = settings.trust_domain.as_str();
        let leaf = ca.sign_csr(&request.get_ref().csr, domain, &account, lifetime).map_err(|error| {
            tracing::warn!(%account, %error, "CSR refused");
            Status::invalid_argument("the CSR cannot be read")
        })?;
        tracing::debug!(%account, "certificate issued");
        Ok(Response::new(IstioCertificateResponse { cert_chain: leaf.chain }))
    }
}
