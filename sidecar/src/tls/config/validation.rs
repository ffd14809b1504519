//! `CertificateValidationContext` → whom a handshake trusts.

use std::sync::Arc;

use base64::Engine;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher_pb;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;

use super::secret::{bad, origin};
use crate::config::{ConfigError, Within, bool_or, data_source, each, is, type_name, unpack};
use crate::tls::certificate::{BadCertificate, pem_certificates};
use crate::tls::verify::{Roots, SanKind, SanMatcher, TextMatch, Validation, revocation_list};

/// # Errors
/// Something in it can't be read, or can't be checked here.
pub fn validation(context: &pb::CertificateValidationContext) -> Result<Validation, ConfigError> {
    use pb::certificate_validation_context::TrustChainVerification;
    if context.ca_certificate_provider_instance.is_some() {
        return Err(ConfigError::at("ca_certificate_provider_instance", "certificate providers are not supported"));
    }
    if bool_or(context.require_signed_certificate_timestamp.as_ref(), false) {
        return Err(ConfigError::at("require_signed_certificate_timestamp", "is not supported"));
    }
    let trusted = match (&context.trusted_ca, &context.system_root_certs) {
        (Some(source), _) => Some(roots(source).within("trusted_ca")?),
        (None, Some(_)) => Some(system_roots().within("system_root_certs")?),
        (None, None) => None,
    };
    let mut sans = Vec::new();
    for (at, matcher) in context.match_typed_subject_alt_names.iter().enumerate() {
        sans.push(san_matcher(matcher).within(&format!("match_typed_subject_alt_names[{at}]"))?);
    }
    #[allow(deprecated)]
    for (at, matcher) in context.match_subject_alt_names.iter().enumerate() {
        let (matches, exact) = text_match(matcher).within(&format!("match_subject_alt_names[{at}]"))?;
        sans.extend([SanKind::Dns, SanKind::Uri, SanKind::Email, SanKind::Ip].map(|kind| SanMatcher {
            kind,
            matches: matches.clone(),
            exact: exact.clone(),
        }));
    }
    let crls = match &context.crl {
        None => None,
        Some(source) => Some(Arc::new(crls(source).within("crl")?)),
    };
    let trust_domains = match &context.custom_validator_config {
        None => None,
        Some(extension) => Some(Arc::new(spiffe(extension).within("custom_validator_config")?)),
    };
    Ok(Validation {
        roots: trusted,
        trust_domains,
        sans,
        hashes: each("verify_certificate_hash", &context.verify_certificate_hash, |text| hash(text))?,
        spkis: each("verify_certificate_spki", &context.verify_certificate_spki, |text| spki(text))?,
        crls,
        only_verify_leaf_crl: context.only_verify_leaf_cert_crl,
        allow_expired: context.allow_expired_certificate,
        accept_untrusted: context.trust_chain_verification == TrustChainVerification::AcceptUntrusted as i32,
        max_depth: context.max_verify_depth.as_ref().map(|depth| depth.value),
        suppress_ca_list: context.suppress_client_ca_list,
    })
}

/// The bundles where distributions keep the system's authorities.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

fn system_roots() -> Result<Arc<Roots>, ConfigError> {
    let found = SYSTEM_ROOTS.iter().find_map(|path| std::fs::read(path).ok());
    let pem = found.ok_or_else(|| ConfigError::new("this system has no bundle of root certificates"))?;
    let usable = pem_certificates(&pem).map_err(ConfigError::new)?;
    Roots::new(usable).map(Arc::new).map_err(ConfigError::new)
}

fn crls(source: &core::DataSource) -> Result<Vec<webpki::OwnedCertRevocationList>, ConfigError> {
    let refused = |why: String| ConfigError::new(format!("Failed to load CRL from {}: {why}", origin(source)));
    let pem = data_source(source)?;
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|e| refused(format!("{e:?}")))?;
    if lists.is_empty() {
        return Err(refused("no PEM list in it".to_owned()));
    }
    lists.iter().map(|der| revocation_list(der).map_err(refused)).collect()
}

/// Hex, with or without colons.
fn hash(text: &str) -> Result<[u8; 32], ConfigError> {
    let invalid = || ConfigError::new(format!("Invalid hex-encoded SHA-256 {text}"));
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return Err(invalid());
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
    }
    Ok(bytes)
}

fn spki(text: &str) -> Result<[u8; 32], ConfigError> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(text).ok();
    decoded
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| ConfigError::new(format!("Invalid base64-encoded SHA-256 {text}")))
}

fn san_matcher(matcher: &pb::SubjectAltNameMatcher) -> Result<SanMatcher, ConfigError> {
    use pb::subject_alt_name_matcher::SanType;
    let kind = match SanType::try_from(matcher.san_type) {
        Ok(SanType::Email) => SanKind::Email,
        Ok(SanType::Dns) => SanKind::Dns,
        Ok(SanType::Uri) => SanKind::Uri,
        Ok(SanType::IpAddress) => SanKind::Ip,
        Ok(SanType::OtherName) if !matcher.oid.is_empty() => SanKind::Other(matcher.oid.clone()),
        Ok(SanType::OtherName) => return Err(ConfigError::at("oid", "an OID is required for OTHER_NAME")),
        Ok(SanType::Unspecified) | Err(_) => return Err(ConfigError::at("san_type", "value must be a defined type")),
    };
    let text = matcher.matcher.as_ref().ok_or_else(|| ConfigError::at("matcher", "value is required"))?;
    let (matches, exact) = text_match(text).within("matcher")?;
    Ok(SanMatcher { kind, matches, exact })
}

fn spiffe(extension: &core::TypedExtensionConfig) -> Result<Vec<(String, Arc<Roots>)>, ConfigError> {
    let any = extension.typed_config.clone().unwrap_or_default();
    if !is::<pb::SpiffeCertValidatorConfig>(&any) {
        return Err(ConfigError::new(format!(
            "Didn't find a registered implementation for '{}' with type URL: '{}'",
            extension.name,
            type_name(&any)
        )));
    }
    let config: pb::SpiffeCertValidatorConfig = unpack(&any)?;
    if config.trust_bundles.is_some() {
        return Err(ConfigError::at("trust_bundles", "SPIFFE bundle maps are not supported; list trust_domains"));
    }
    if config.trust_domains.is_empty() {
        return Err(ConfigError::at("trust_domains", "at least one trust domain is required"));
    }
    let domains = each("trust_domains", &config.trust_domains, |domain| {
        let bundle =
            domain.trust_bundle.as_ref().ok_or_else(|| ConfigError::at("trust_bundle", "value is required"))?;
        Ok((domain.name.clone(), roots(bundle).within("trust_bundle")?))
    })?;
    for (at, (name, _)) in domains.iter().enumerate() {
        if domains.iter().take(at).any(|(other, _)| other == name) {
            return Err(ConfigError::new(format!("Multiple trust bundles are given for one trust domain for {name}")));
        }
    }
    Ok(domains)
}

fn roots(source: &core::DataSource) -> Result<Arc<Roots>, ConfigError> {
    let refused = |why| bad(BadCertificate::Authorities { origin: origin(source), why });
    let pem = data_source(source)?;
    let certificates = pem_certificates(&pem).map_err(refused)?;
    Roots::new(certificates).map(Arc::new).map_err(refused)
}

/// A `StringMatcher`, with its whole text where it is `exact`.
fn text_match(value: &matcher_pb::StringMatcher) -> Result<(TextMatch, Option<String>), ConfigError> {
    use matcher_pb::string_matcher::MatchPattern as Kind;
    let ignore = value.ignore_case;
    let fold = move |text: &str| if ignore { text.to_ascii_lowercase() } else { text.to_owned() };
    let pattern = value.match_pattern.as_ref().ok_or_else(|| ConfigError::new("a match pattern is required"))?;
    Ok(match pattern {
        Kind::Exact(text) => {
            let wanted = fold(text);
            (Arc::new(move |name: &str| fold(name) == wanted), Some(text.clone()))
        }
        Kind::Prefix(text) => {
            let wanted = fold(text);
            (Arc::new(move |name: &str| fold(name).starts_with(&wanted)), None)
        }
        Kind::Suffix(text) => {
            let wanted = fold(text);
            (Arc::new(move |name: &str| fold(name).ends_with(&wanted)), None)
        }
        Kind::Contains(text) => {
            let wanted = fold(text);
            (Arc::new(move |name: &str| fold(name).contains(&wanted)), None)
        }
        Kind::SafeRegex(matcher) => {
            let regex = regex::Regex::new(&format!("^(?:{})$", matcher.regex))
                .map_err(|e| ConfigError::at("safe_regex.regex", e.to_string()))?;
            (Arc::new(move |name: &str| regex.is_match(name)), None)
        }
        Kind::Custom(_) => return Err(ConfigError::at("custom", "custom string matchers are not supported")),
    })
}
