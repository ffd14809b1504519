//! What a certificate says, and certificates with their keys: PEM and DER in, facts and rustls'
//! types out. Whether a certificate is to be trusted is `verify`'s question.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::stream::CertificateFacts;

/// Why certificates or keys can't be used. `origin` is a file name or `<inline>`, never content.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadCertificate {
    #[error("Failed to load certificate chain from {origin}: {why}")]
    Chain { origin: String, why: String },
    #[error("Failed to load private key from {origin}: {why}")]
    Key { origin: String, why: String },
    #[error("Failed to load trusted CA certificates from {origin}: {why}")]
    Authorities { origin: String, why: String },
}

/// A certificate chain with its private key.
#[derive(Debug)]
pub struct Identity {
    pub certified: Arc<CertifiedKey>,
    pub facts: Arc<CertificateFacts>,
    /// The names a client may ask for: DNS SANs, or the subject's common name where there is none.
    pub names: Vec<String>,
    pub ecdsa: bool,
}

impl Identity {
    /// Reads a chain (leaf first) and its key, both PEM.
    ///
    /// # Errors
    /// Either can't be read, or they don't belong together.
    pub fn from_pem(chain: (&[u8], &str), key: (&[u8], &str)) -> Result<Identity, BadCertificate> {
        let bad_chain = |why: String| BadCertificate::Chain { origin: chain.1.to_owned(), why };
        let bad_key = |why: &str| BadCertificate::Key { origin: key.1.to_owned(), why: why.to_owned() };
        let certificates = pem_certificates(chain.0).map_err(bad_chain)?;
        let facts =
            facts_of_chain(&certificates).ok_or_else(|| bad_chain("the first certificate is malformed".into()))?;
        let names = match facts.dns_sans.is_empty() {
            true => common_name(&certificates).into_iter().collect(),
            false => facts.dns_sans.clone(),
        };
        let private = PrivateKeyDer::from_pem_slice(key.0)
            .map_err(|_| bad_key("no unencrypted PEM private key (PKCS#8, PKCS#1 or SEC 1) in it"))?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private)
            .map_err(|_| bad_key("only RSA, ECDSA P-256/P-384/P-521 and Ed25519 keys are supported"))?;
        let ecdsa = signing.algorithm() == SignatureAlgorithm::ECDSA;
        let certified = CertifiedKey::new(certificates, signing);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(bad_key("KEY_VALUES_MISMATCH, the key is not the certificate's")),
        }
        Ok(Identity { certified: Arc::new(certified), facts: Arc::new(facts), names, ecdsa })
    }
}

/// All certificates of a PEM text; other blocks are skipped.
///
/// # Errors
/// Bad PEM, or no certificate in it: the words for the user.
pub fn pem_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| format!("bad PEM: {e:?}"))?;
    if certificates.is_empty() { Err("no PEM certificate in it".to_owned()) } else { Ok(certificates) }
}

/// Facts of the first certificate, with the DER forms of all of them.
pub fn facts_of_chain(chain: &[CertificateDer<'_>]) -> Option<CertificateFacts> {
    let mut facts = facts_of(chain.first()?)?;
    facts.der = chain.iter().map(|der| Arc::from(der.as_ref())).collect();
    Some(facts)
}

/// Reads one certificate's facts; `None` if it is malformed.
pub fn facts_of(der: &CertificateDer<'_>) -> Option<CertificateFacts> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut facts = CertificateFacts {
        subject: rfc2253(certificate.subject()),
        issuer: rfc2253(certificate.issuer()),
        serial: hex(strip_zeros(certificate.raw_serial())),
        sha256: hex(digest(&aws_lc_rs::digest::SHA256, der).as_ref()),
        sha1: hex(digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        der: vec![Arc::from(der.as_ref())],
        ..CertificateFacts::default()
    };
    for name in names_of(&certificate) {
        match name {
            GeneralName::URI(uri) => facts.uri_sans.push((*uri).to_owned()),
            GeneralName::DNSName(dns) => facts.dns_sans.push((*dns).to_owned()),
            GeneralName::RFC822Name(email) => facts.email_sans.push((*email).to_owned()),
            GeneralName::IPAddress(bytes) => facts.ip_sans.extend(ip_text(bytes)),
            _ => {}
        }
    }
    Some(facts)
}

/// Values of `otherName` SANs: their type's OID and the text inside.
pub fn other_names(der: &CertificateDer<'_>) -> Vec<(String, String)> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::OtherName(oid, value) => Some((oid.to_id_string(), other_name_text(value)?)),
        _ => None,
    };
    names_of(&certificate).iter().filter_map(text).collect()
}

/// The text inside an otherName's `[0] EXPLICIT` value, if its type is a string's.
fn other_name_text(value: &[u8]) -> Option<String> {
    use x509_parser::der_parser::ber::{BerObjectContent, parse_ber};
    let (_, outer) = parse_ber(value).ok()?;
    let inner = match &outer.content {
        BerObjectContent::Unknown(any) => parse_ber(any.data).ok()?.1,
        _ => outer,
    };
    inner.as_str().ok().map(str::to_owned)
}

/// SHA-256 of the public key info, base64: what `verify_certificate_spki` lists.
pub fn spki_sha256(der: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    digest(&aws_lc_rs::digest::SHA256, certificate.public_key().raw).as_ref().try_into().ok()
}

/// SHA-256 of the whole certificate.
pub fn sha256(der: &[u8]) -> Option<[u8; 32]> {
    digest(&aws_lc_rs::digest::SHA256, der).as_ref().try_into().ok()
}

fn digest(algorithm: &'static aws_lc_rs::digest::Algorithm, data: &[u8]) -> aws_lc_rs::digest::Digest {
    aws_lc_rs::digest::digest(algorithm, data)
}

fn names_of<'a>(certificate: &'a X509Certificate<'a>) -> &'a [GeneralName<'a>] {
    match certificate.subject_alternative_name() {
        Ok(Some(extension)) => &extension.value.general_names,
        _ => &[],
    }
}

fn common_name(chain: &[CertificateDer<'_>]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name)
}

fn ip_text(bytes: &[u8]) -> Option<String> {
    let address: IpAddr = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        16 => <[u8; 16]>::try_from(bytes).ok()?.into(),
        _ => return None,
    };
    Some(address.to_string())
}

fn strip_zeros(bytes: &[u8]) -> &[u8] {
    match bytes {
        [0, rest @ ..] if !rest.is_empty() => strip_zeros(rest),
        _ => bytes,
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A distinguished name, most specific part first. Source: OpenSSL's `XN_FLAG_RFC2253`, RFC 2253 section 2.
fn rfc2253(name: &X509Name<'_>) -> String {
    let parts: Vec<String> = name
        .iter_rdn()
        .map(|rdn| {
            let values: Vec<String> = rdn
                .iter()
                .map(|attribute| {
                    let oid = attribute.attr_type().to_id_string();
                    match (short_name(&oid), attribute.as_str()) {
                        (Some(short), Ok(value)) => format!("{short}={}", escaped(value)),
                        (Some(short), Err(_)) => format!("{short}=#{}", hex(attribute.as_slice())),
                        (None, _) => format!("{oid}=#{}", hex(attribute.as_slice())),
                    }
                })
                .collect();
            values.join("+")
        })
        .collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "2.5.4.43" => "initials",
        "2.5.4.46" => "dnQualifier",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, byte) in value.bytes().enumerate() {
        let outer = at == 0 || at + 1 == value.len();
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'#' if at == 0 => text.push_str("\\#"),
            b' ' if outer => text.push_str("\\ "),
            0x20..=0x7e => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguished_names_are_escaped() {
        for (value, expected) in
            [("a", "a"), ("a,b", "a\\,b"), (" a ", "\\ a\\ "), ("#x", "\\#x"), ("é", "\\C3\\A9"), ("a\"b", "a\\\"b")]
        {
            assert_eq!(escaped(value), expected);
        }
    }

    #[test]
    fn facts_of_a_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.test".into(), "10.0.0.1".into()]).unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI("spiffe://td/ns/a/sa/b".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Org, Inc");
        params.distinguished_name.push(rcgen::DnType::CommonName, "a.test");
        params.serial_number = Some(vec![0x10, 0x0c].into());
        let certificate = params.self_signed(&key).unwrap();
        let facts = facts_of(certificate.der()).unwrap();
        assert_eq!(facts.subject, "CN=a.test,O=Org\\, Inc");
        assert_eq!(facts.serial, "100c");
        assert_eq!(facts.uri_sans, ["spiffe://td/ns/a/sa/b"]);
        assert_eq!((facts.dns_sans, facts.ip_sans), (vec!["a.test".to_owned()], vec!["10.0.0.1".to_owned()]));
        assert_eq!(facts.sha256.len(), 64);

        let pem = certificate.pem();
        let identity = Identity::from_pem((pem.as_bytes(), "x"), (key.serialize_pem().as_bytes(), "x")).unwrap();
        assert!(identity.ecdsa);
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let error = Identity::from_pem((pem.as_bytes(), "x"), (other.as_bytes(), "<inline>")).unwrap_err();
        assert!(error.to_string().contains("KEY_VALUES_MISMATCH"), "{error}");
    }
}
