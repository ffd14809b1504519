//! The proxy's own certificate: a key made here, which never leaves, and a certificate that the CA signs for it. It comes to those who
//! use secret `default` as if the management server had sent it.
//!
//! A new one is asked for at half life, and whenever the roots that are trusted change: then the CA may have changed too.
//! Source: Istio's node agent; `istio.v1.auth.IstioCertificateService`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use tokio::sync::Notify;
use tracing::{info, warn};
use xds::ca::IstioCertificateRequest;
use xds::ca::client::IstioCertificateServiceClient;
use xds::type_url;

use super::stream::{Options, channel, with_credentials};
use super::{Change, Events, Fetched};

/// The secret that is the proxy's own certificate.
pub const CERTIFICATE: &str = "default";
/// The secret that are the roots others' certificates must have.
pub const ROOTS: &str = "ROOTCA";

/// What is asked for; the CA may give less.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(15);
/// Even a certificate that is nearly over is not renewed more often.
const SHORTEST_LIFE: Duration = Duration::from_secs(2);

/// The asking task, for as long as the process lives.
#[derive(Debug)]
pub struct Identity {
    renew: Arc<Notify>,
}

impl Identity {
    /// Begins to ask the CA that `options` reach, for the SPIFFE id `identity` if it is to be named.
    pub fn start(options: Options, identity: Option<String>, events: Events) -> Self {
        let renew = Arc::new(Notify::new());
        tokio::spawn(run(options, identity, events, renew.clone()));
        Self { renew }
    }

    /// Asks for a new certificate soon.
    pub fn renew(&self) {
        self.renew.notify_one();
    }
}

async fn run(options: Options, identity: Option<String>, events: Events, renew: Arc<Notify>) {
    let mut delay = FIRST_DELAY;
    loop {
        let wait = match ask(&options, identity.as_deref()).await {
            Ok(certificate) => {
                delay = FIRST_DELAY;
                let wait = certificate.renewal();
                info!(cluster = options.cluster, renewal = ?wait, "certificate signed");
                match events.judge(certificate.change()).await {
                    Ok(()) => wait,
                    Err(why) => {
                        warn!("the CA's certificate is refused: {why}");
                        LONGEST_DELAY
                    }
                }
            }
            Err(why) => {
                warn!(cluster = options.cluster, "no certificate: {why}");
                let wait = delay.mul_f64(0.5 + fastrand::f64());
                delay = (delay * 2).min(LONGEST_DELAY);
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = renew.notified() => {}
        }
    }
}

/// A certificate and its key, in PEM.
struct Certificate {
    key: String,
    chain: String,
    /// In seconds of Unix time.
    not_after: i64,
}

async fn ask(options: &Options, identity: Option<&str>) -> Result<Certificate, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let request = IstioCertificateRequest {
        csr: csr(&key, identity).map_err(|error| error.to_string())?,
        validity_duration: i64::try_from(LIFETIME.as_secs()).unwrap_or(i64::MAX),
        metadata: None,
    };
    let channel = channel(options).await?;
    let mut client = IstioCertificateServiceClient::new(channel);
    let answer = client.create_certificate(with_credentials(options, request)).await;
    let answer = answer.map_err(|status| format!("{:?}: {}", status.code(), status.message()))?;
    // The last may be roots as someone wrote them into a file, with no end of line.
    let chain: String = answer.into_inner().cert_chain.iter().map(|part| format!("{}\n", part.trim())).collect();
    let not_after = not_after(&chain).ok_or("the CA sent what is no certificate")?;
    Ok(Certificate { key: key.serialize_pem(), chain, not_after })
}

/// No subject and no name but the identity: istio-csr refuses what has any other, and without the identity too. Our own CA knows the
/// caller by itself. Source: istio-csr, `authRequest` and `ValidateCSRExtentions`.
fn csr(key: &KeyPair, identity: Option<&str>) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(id) = identity {
        params.subject_alt_names.push(SanType::URI(id.try_into()?));
    }
    params.serialize_request(key)?.pem()
}

fn not_after(chain: &str) -> Option<i64> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).ok()?;
    Some(pem.parse_x509().ok()?.validity().not_after.timestamp())
}

impl Certificate {
    /// Half of what is left, give or take a tenth, so that not all renew at once.
    fn renewal(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let end = Duration::from_secs(u64::try_from(self.not_after).unwrap_or_default());
        end.saturating_sub(now).mul_f64(0.45 + 0.1 * fastrand::f64()).max(SHORTEST_LIFE)
    }

    fn change(&self) -> Change {
        let inline = |text: &str| {
            let specifier = Some(data_source::Specifier::InlineBytes(text.as_bytes().to_vec()));
            Some(DataSource { specifier, ..Default::default() })
        };
        let certificate = TlsCertificate {
            certificate_chain: inline(&self.chain),
            private_key: inline(&self.key),
            ..Default::default()
        };
        let secret = Secret { name: CERTIFICATE.to_owned(), r#type: Some(secret::Type::TlsCertificate(certificate)) };
        let resource = Any { type_url: type_url::SECRET.to_owned(), value: secret.encode_to_vec() };
        let version = self.not_after.to_string();
        let fetched = Fetched { name: CERTIFICATE.to_owned(), version: version.clone(), resource, ttl: None };
        Change {
            type_url: type_url::SECRET.to_owned(),
            version,
            full: false,
            resources: vec![fetched],
            removed: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::prelude::{FromDer, ParsedExtension};

    use super::*;

    #[test]
    fn a_csr_asks_for_the_identity_and_nothing_else() {
        let key = KeyPair::generate().unwrap();
        for (identity, names) in
            [(None, vec![]), (Some("spiffe://a.b/ns/shop/sa/web"), vec!["URI(spiffe://a.b/ns/shop/sa/web)"])]
        {
            let (_, pem) = x509_parser::pem::parse_x509_pem(csr(&key, identity).unwrap().as_bytes()).unwrap();
            let (_, csr) = X509CertificationRequest::from_der(&pem.contents).unwrap();
            assert!(csr.certification_request_info.subject.iter().next().is_none());
            let extensions: Vec<_> = csr.requested_extensions().into_iter().flatten().collect();
            let asked = extensions.iter().flat_map(|extension| match extension {
                ParsedExtension::SubjectAlternativeName(san) => {
                    san.general_names.iter().map(ToString::to_string).collect()
                }
                other => vec![format!("{other:?}")],
            });
            assert_eq!(asked.collect::<Vec<_>>(), names);
        }
    }
}
