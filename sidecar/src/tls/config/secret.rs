//! `Secret` → a certificate with its key, whom to trust, ticket keys, or bytes; and the files that it names.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::google::protobuf::Any;

use super::validation::validation;
use crate::config::{ConfigError, Within, data_source, each, unpack};
use crate::tls::certificate::{BadCertificate, Identity};
use crate::tls::secrets::Secret;

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
pub(super) fn secret_files(value: &pb::Secret) -> Vec<String> {
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

/// A certificate and its key.
///
/// # Errors
/// One of them is missing or can't be read, or they do not belong together.
pub(super) fn identity(certificate: &pb::TlsCertificate) -> Result<Identity, ConfigError> {
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

/// Where a source's bytes are from, for messages.
pub(super) fn origin(source: &core::DataSource) -> String {
    match &source.specifier {
        Some(core::data_source::Specifier::Filename(name)) => name.clone(),
        Some(core::data_source::Specifier::EnvironmentVariable(name)) => format!("${name}"),
        _ => "<inline>".to_owned(),
    }
}

pub(super) fn bad(error: BadCertificate) -> ConfigError {
    ConfigError::new(error.to_string())
}
