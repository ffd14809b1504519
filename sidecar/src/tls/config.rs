//! `DownstreamTlsContext`, `UpstreamTlsContext` and `Secret` → what the handshakes use.
//!
//! Whatever guards and can't be done here is refused: a context never gets weaker by being read.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base64::Engine;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;

use super::accept::DownstreamTls;
use super::certificate::{BadCertificate, Identity, pem_certificates};
use super::connect::UpstreamTls;
use super::context::{CommonTls, Side};
use super::params::{TlsParams, TlsVersion, provider};
use super::secrets::{Secret, SecretRef, SecretSlot, SecretStore};
use super::stats::SslStats;
use super::verify::{Roots, SanKind, SanMatcher, Validation, revocation_list};
use crate::config::{ConfigError, Within, bool_or, data_source, each, is, type_name, unpack};
use crate::observe::stats::Scope;

/// Where a listener's or cluster's TLS belongs: its metrics, and the secrets of the process.
#[derive(Clone, Copy)]
pub struct TlsScope<'a> {
    pub stats: &'a Scope,
    pub secrets: &'a SecretStore,
}

/// What carries a filter chain's bytes. `None`: plain.
///
/// # Errors
/// The context can't be used, or the transport socket is not known.
pub fn downstream(
    socket: Option<&core::TransportSocket>,
    scope: TlsScope<'_>,
) -> Result<Option<Arc<DownstreamTls>>, ConfigError> {
    match tls_context::<pb::DownstreamTlsContext>(socket)? {
        None => Ok(None),
        Some(context) => downstream_context(&context, scope).within("typed_config").map(|tls| Some(Arc::new(tls))),
    }
}

/// What carries an upstream connection's bytes. `None`: plain.
///
/// # Errors
/// The context can't be used, or the transport socket is not known.
pub fn upstream(
    socket: Option<&core::TransportSocket>,
    scope: TlsScope<'_>,
) -> Result<Option<Arc<UpstreamTls>>, ConfigError> {
    match tls_context::<pb::UpstreamTlsContext>(socket)? {
        None => Ok(None),
        Some(context) => upstream_context(&context, scope).within("typed_config").map(|tls| Some(Arc::new(tls))),
    }
}

const RAW_BUFFER: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";

fn tls_context<T: Message + prost::Name + Default>(
    socket: Option<&core::TransportSocket>,
) -> Result<Option<T>, ConfigError> {
    let Some(socket) = socket else { return Ok(None) };
    let config = match &socket.config_type {
        Some(core::transport_socket::ConfigType::TypedConfig(any)) => any,
        None if socket.name == "envoy.transport_sockets.raw_buffer" => return Ok(None),
        None => return Err(unknown_socket(&socket.name, "")),
    };
    match type_name(config) {
        RAW_BUFFER => Ok(None),
        _ if is::<T>(config) => unpack(config).within("typed_config").map(Some),
        name => Err(unknown_socket(&socket.name, name)),
    }
}

fn unknown_socket(name: &str, type_name: &str) -> ConfigError {
    ConfigError::new(format!(
        "Didn't find a registered implementation for '{name}' with type URL: '{type_name}'; \
         supported are the TLS contexts and raw_buffer"
    ))
}

/// # Errors
/// The context can't be used as it is.
pub fn downstream_context(
    context: &pb::DownstreamTlsContext,
    scope: TlsScope<'_>,
) -> Result<DownstreamTls, ConfigError> {
    use pb::downstream_tls_context::{OcspStaplePolicy, SessionTicketKeysType};
    let common = context.common_tls_context.clone().unwrap_or_default();
    if common.tls_certificates.is_empty() && common.tls_certificate_sds_secret_configs.is_empty() {
        return Err(ConfigError::new("No TLS certificates found for server context"));
    }
    if context.ocsp_staple_policy == OcspStaplePolicy::MustStaple as i32 {
        return Err(ConfigError::at(
            "ocsp_staple_policy",
            "OCSP stapling is not supported, so MUST_STAPLE can't be kept",
        ));
    }
    let stateless = match &context.session_ticket_keys_type {
        None => true,
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(disabled)) => !disabled,
        // Keys of our own resume as well; only resumption across processes is lost.
        Some(_) => true,
    };
    let built = common_context(&common, Side::Server, scope).within("common_tls_context")?;
    let requires = bool_or(context.require_client_certificate.as_ref(), false);
    Ok(DownstreamTls {
        common: built,
        require_client_certificate: requires,
        require_sni: bool_or(context.require_sni.as_ref(), false),
        stateless_resumption: stateless,
        stateful_resumption: !context.disable_stateful_session_resumption,
        full_scan_certificates: bool_or(context.full_scan_certs_on_sni_mismatch.as_ref(), false),
        prefer_client_ciphers: context.prefer_client_ciphers,
        built: ArcSwapOption::empty(),
    })
}

/// # Errors
/// The context can't be used as it is.
pub fn upstream_context(context: &pb::UpstreamTlsContext, scope: TlsScope<'_>) -> Result<UpstreamTls, ConfigError> {
    let common = context.common_tls_context.clone().unwrap_or_default();
    if common.tls_certificates.len() + common.tls_certificate_sds_secret_configs.len() > 1 {
        return Err(ConfigError::at(
            "common_tls_context.tls_certificates",
            "Multiple TLS certificates are not supported for client contexts",
        ));
    }
    if context.sni.len() > 255 || context.sni.contains('\0') {
        return Err(ConfigError::at("sni", "SNI names containing NULL-byte or over 255 bytes are not allowed"));
    }
    if context.allow_renegotiation {
        return Err(ConfigError::at("allow_renegotiation", "TLS renegotiation is not supported"));
    }
    let built = common_context(&common, Side::Client, scope).within("common_tls_context")?;
    Ok(UpstreamTls {
        common: built,
        sni: context.sni.clone(),
        auto_host_sni: context.auto_host_sni,
        auto_sni_san_validation: context.auto_sni_san_validation,
        max_session_keys: context.max_session_keys.as_ref().map_or(1, |n| n.value as usize),
        built: ArcSwapOption::empty(),
    })
}

fn common_context(common: &pb::CommonTlsContext, side: Side, scope: TlsScope<'_>) -> Result<CommonTls, ConfigError> {
    use pb::common_tls_context::ValidationContextType as Kind;
    refuse_unsupported(common)?;
    let mut certificates = each("tls_certificates", &common.tls_certificates, |certificate| {
        Ok(SecretSlot::fixed("", Secret::Certificate(Arc::new(identity(certificate)?))))
    })?;
    certificates.extend(each(
        "tls_certificate_sds_secret_configs",
        &common.tls_certificate_sds_secret_configs,
        |sds| slot(sds, scope.secrets),
    )?);
    let (own, validation_slot) = match &common.validation_context_type {
        None => (Validation::default(), None),
        Some(Kind::ValidationContext(context)) => (validation(context).within("validation_context")?, None),
        Some(Kind::ValidationContextSdsSecretConfig(sds)) => {
            let slot = slot(sds, scope.secrets).within("validation_context_sds_secret_config")?;
            (Validation::default(), Some(slot))
        }
        Some(Kind::CombinedValidationContext(combined)) => combined_context(combined, scope.secrets)?,
        Some(_) => return Err(ConfigError::new("certificate providers for validation contexts are not supported")),
    };
    if validation_slot.is_none() {
        own.consistent().map_err(|words| ConfigError::at("validation_context", words))?;
    }
    let (secrets_not_ready, updates_by_sds) = CommonTls::sds_counters(scope.stats, side);
    Ok(CommonTls {
        params: params(common.tls_params.as_ref(), side)?,
        alpn: common.alpn_protocols.iter().map(|name| name.clone().into_bytes()).collect(),
        certificates,
        validation: Arc::new(own),
        validation_slot,
        stats: Arc::new(SslStats::new(scope.stats)),
        secrets_not_ready,
        updates_by_sds,
    })
}

fn refuse_unsupported(common: &pb::CommonTlsContext) -> Result<(), ConfigError> {
    let refused = |field: &str| Err(ConfigError::at(field, format!("{field} is not supported")));
    #[allow(deprecated)]
    if common.tls_certificate_certificate_provider.is_some()
        || common.tls_certificate_certificate_provider_instance.is_some()
    {
        return refused("tls_certificate_certificate_provider");
    }
    if common.tls_certificate_provider_instance.is_some() {
        return refused("tls_certificate_provider_instance");
    }
    if common.custom_tls_certificate_selector.is_some() {
        return refused("custom_tls_certificate_selector");
    }
    if common.custom_handshaker.is_some() {
        return refused("custom_handshaker");
    }
    Ok(())
}

fn combined_context(
    combined: &pb::common_tls_context::CombinedCertificateValidationContext,
    secrets: &SecretStore,
) -> Result<(Validation, Option<Arc<SecretSlot>>), ConfigError> {
    let default = combined.default_validation_context.clone().unwrap_or_default();
    let own = validation(&default).within("combined_validation_context.default_validation_context")?;
    let sds = combined.validation_context_sds_secret_config.as_ref().ok_or_else(|| {
        ConfigError::at("combined_validation_context.validation_context_sds_secret_config", "value is required")
    })?;
    let slot = slot(sds, secrets).within("combined_validation_context.validation_context_sds_secret_config")?;
    Ok((own, Some(slot)))
}

fn slot(sds: &pb::SdsSecretConfig, secrets: &SecretStore) -> Result<Arc<SecretSlot>, ConfigError> {
    if sds.name.is_empty() {
        return Err(ConfigError::at("name", "value length must be at least 1 characters"));
    }
    let source = sds.sds_config.as_ref().map(Message::encode_to_vec);
    secrets
        .slot(SecretRef { name: sds.name.clone(), source })
        .ok_or_else(|| ConfigError::new(format!("Unknown static secret: {}", sds.name)))
}

/// Envoy's defaults: a server speaks TLS 1.2 and 1.3, a client only 1.2 unless its maximum is raised.
/// Source: `TlsParameters`. Lower bounds below TLS 1.2 are read as 1.2: older versions are not spoken.
fn params(value: Option<&pb::TlsParameters>, side: Side) -> Result<TlsParams, ConfigError> {
    use pb::tls_parameters::TlsProtocol;
    let value = value.cloned().unwrap_or_default();
    let default_max = match side {
        Side::Server => TlsVersion::V13,
        Side::Client => TlsVersion::V12,
    };
    let min = match TlsProtocol::try_from(value.tls_minimum_protocol_version) {
        Ok(TlsProtocol::TlSv13) => TlsVersion::V13,
        Ok(_) => TlsVersion::V12,
        Err(_) => return Err(ConfigError::at("tls_params.tls_minimum_protocol_version", "unknown TLS version")),
    };
    let max = match TlsProtocol::try_from(value.tls_maximum_protocol_version) {
        Ok(TlsProtocol::TlsAuto) => default_max.max(min),
        Ok(TlsProtocol::TlSv12) => TlsVersion::V12,
        Ok(TlsProtocol::TlSv13) => TlsVersion::V13,
        Ok(TlsProtocol::TlSv10 | TlsProtocol::TlSv11) => {
            return Err(ConfigError::at(
                "tls_params.tls_maximum_protocol_version",
                "TLS 1.0 and 1.1 are not supported; the maximum must be TLSv1_2 or TLSv1_3",
            ));
        }
        Err(_) => return Err(ConfigError::at("tls_params.tls_maximum_protocol_version", "unknown TLS version")),
    };
    if min > max {
        return Err(ConfigError::at("tls_params", "the minimum TLS version is above the maximum"));
    }
    if !value.compliance_policies.is_empty() {
        return Err(ConfigError::at("tls_params.compliance_policies", "compliance_policies is not supported"));
    }
    if !value.signature_algorithms.is_empty() {
        return Err(ConfigError::at("tls_params.signature_algorithms", "signature_algorithms is not supported"));
    }
    Ok(TlsParams { min, max, provider: provider(&value.cipher_suites, &value.ecdh_curves)? })
}

fn origin(source: &core::DataSource) -> String {
    match &source.specifier {
        Some(core::data_source::Specifier::Filename(name)) => name.clone(),
        Some(core::data_source::Specifier::EnvironmentVariable(name)) => format!("${name}"),
        _ => "<inline>".to_owned(),
    }
}

fn bad(error: BadCertificate) -> ConfigError {
    ConfigError::new(error.to_string())
}

fn identity(certificate: &pb::TlsCertificate) -> Result<Identity, ConfigError> {
    if certificate.pkcs12.is_some() {
        return Err(ConfigError::at("pkcs12", "PKCS#12 is not supported; give PEM files"));
    }
    if certificate.private_key_provider.is_some() {
        return Err(ConfigError::at("private_key_provider", "private key providers are not supported"));
    }
    if certificate.password.is_some() {
        return Err(ConfigError::at("password", "encrypted private keys are not supported; decrypt the key"));
    }
    let missing = |field: &str| ConfigError::at(field, "certificate_chain and private_key are required");
    let chain = certificate.certificate_chain.as_ref().ok_or_else(|| missing("certificate_chain"))?;
    let key = certificate.private_key.as_ref().ok_or_else(|| missing("private_key"))?;
    let chain_pem = data_source(chain).within("certificate_chain")?;
    let key_pem = data_source(key).within("private_key")?;
    Identity::from_pem((&chain_pem, &origin(chain)), (&key_pem, &origin(key))).map_err(bad)
}

fn roots(source: &core::DataSource) -> Result<Arc<Roots>, ConfigError> {
    let refused = |why| bad(BadCertificate::Authorities { origin: origin(source), why });
    let pem = data_source(source)?;
    let certificates = pem_certificates(&pem).map_err(refused)?;
    Roots::new(certificates).map(Arc::new).map_err(refused)
}

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

/// A secret as SDS or a bootstrap brings it, with the name it has.
///
/// # Errors
/// It can't be read; the message names the file, never the content.
pub fn secret(value: &pb::Secret) -> Result<Secret, ConfigError> {
    use pb::secret::Type;
    match &value.r#type {
        Some(Type::TlsCertificate(certificate)) => {
            identity(certificate).within("tls_certificate").map(|i| Secret::Certificate(Arc::new(i)))
        }
        Some(Type::ValidationContext(context)) => {
            validation(context).within("validation_context").map(|v| Secret::Validation(Arc::new(v)))
        }
        Some(Type::SessionTicketKeys(keys)) => {
            let keys = each("keys", &keys.keys, |source| {
                let bytes: [u8; 80] = data_source(source)?.try_into().map_err(|_| {
                    ConfigError::new("Incorrect TLS session ticket key length. Length must be 80 bytes.")
                })?;
                Ok(bytes)
            });
            keys.within("session_ticket_keys").map(|keys| Secret::TicketKeys(Arc::new(keys)))
        }
        Some(Type::GenericSecret(generic)) => {
            let source = generic.secret.clone().unwrap_or_default();
            data_source(&source).within("generic_secret.secret").map(|bytes| Secret::Generic(Arc::new(bytes)))
        }
        None => Err(ConfigError::new("a secret needs a type")),
    }
}

/// A secret inside an `Any`, with its name.
///
/// # Errors
/// See [`secret`].
pub fn secret_resource(any: &Any) -> Result<(String, Secret), ConfigError> {
    let value: pb::Secret = unpack(any)?;
    Ok((value.name.clone(), secret(&value)?))
}

/// The files a secret's values are read from: when one changes, the secret is read again.
pub fn secret_files(value: &pb::Secret) -> Vec<String> {
    use core::data_source::Specifier;
    use pb::secret::Type;
    let sources: Vec<Option<&core::DataSource>> = match &value.r#type {
        Some(Type::TlsCertificate(c)) => vec![c.certificate_chain.as_ref(), c.private_key.as_ref()],
        Some(Type::ValidationContext(c)) => vec![c.trusted_ca.as_ref(), c.crl.as_ref()],
        _ => Vec::new(),
    };
    let file = |source: &core::DataSource| match &source.specifier {
        Some(Specifier::Filename(name)) => Some(name.clone()),
        _ => None,
    };
    sources.into_iter().flatten().filter_map(file).collect()
}

use envoy_types::pb::envoy::r#type::matcher::v3 as matcher_pb;

use super::verify::TextMatch;

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
