//! `DownstreamTlsContext` and `UpstreamTlsContext` → what the handshakes use.
//!
//! Whatever guards and can't be done here is refused: a context never gets weaker by being read.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use prost::Message;

use self::secret::identity;
use self::validation::validation;
use crate::config::{ConfigError, Within, bool_or, each, is, type_name, unpack};
use crate::observe::stats::Scope;
use crate::tls::accept::DownstreamTls;
use crate::tls::connect::UpstreamTls;
use crate::tls::context::{CommonTls, Side};
use crate::tls::params::{TlsParams, TlsVersion, provider};
use crate::tls::secrets::{Secret, SecretRef, SecretSlot, SecretStore};
use crate::tls::stats::SslStats;
use crate::tls::verify::Validation;

mod follow;
mod secret;
mod validation;

pub use self::follow::follow;
pub use self::secret::{secret, secret_resource};

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
