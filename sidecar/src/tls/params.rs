//! Protocol versions, cipher suites and key-exchange groups: OpenSSL's names on one side, rustls'
//! values on the other.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::{CipherSuite, NamedGroup, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion, version};

use crate::config::ConfigError;

/// A TLS version that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V12,
    V13,
}

/// What may be agreed on.
#[derive(Clone, Debug)]
pub struct TlsParams {
    pub min: TlsVersion,
    pub max: TlsVersion,
    pub provider: Arc<CryptoProvider>,
}

impl TlsParams {
    pub fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        static V12: [&SupportedProtocolVersion; 1] = [&version::TLS12];
        static V13: [&SupportedProtocolVersion; 1] = [&version::TLS13];
        static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        match (self.min, self.max) {
            (TlsVersion::V12, TlsVersion::V12) => &V12,
            (TlsVersion::V12, TlsVersion::V13) => &BOTH,
            (TlsVersion::V13, _) => &V13,
        }
    }
}

/// Makes aws-lc-rs the process's provider. Called once at start; later calls do nothing.
pub fn install_provider() {
    let _ = default_provider().install_default();
}

/// A provider limited to the named ciphers and groups; empty lists mean the defaults.
///
/// # Errors
/// A name that nobody knows, or nothing left that can be spoken.
pub fn provider(ciphers: &[String], groups: &[String]) -> Result<Arc<CryptoProvider>, ConfigError> {
    Ok(Arc::new(CryptoProvider {
        cipher_suites: cipher_suites(ciphers)?,
        kx_groups: key_exchange_groups(groups)?,
        ..default_provider()
    }))
}

/// TLS 1.3's suites always, in Envoy's order of preference, then those of TLS 1.2.
fn cipher_suites(names: &[String]) -> Result<Vec<SupportedCipherSuite>, ConfigError> {
    let mut suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    if names.is_empty() {
        suites.extend([
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ]);
        return Ok(suites);
    }
    let refused = |rejected: &[&str]| {
        ConfigError::at(
            "tls_params.cipher_suites",
            format!(
                "Failed to initialize cipher suites {}. The following ciphers were rejected when tried individually: {}",
                names.join(":"),
                rejected.join(", ")
            ),
        )
    };
    // `[A|B]` gives A and B equal preference.
    let singles: Vec<&str> =
        names.iter().flat_map(|name| name.trim_start_matches('[').trim_end_matches(']').split(['|', ':'])).collect();
    let unknown: Vec<&str> =
        singles.iter().copied().filter(|n| suite(n).is_none() && !NOT_SPOKEN.contains(n)).collect();
    if !unknown.is_empty() {
        return Err(refused(&unknown));
    }
    let chosen: Vec<_> = singles.iter().filter_map(|name| suite(name)).collect();
    if chosen.is_empty() {
        return Err(refused(&singles));
    }
    suites.extend(chosen);
    Ok(suites)
}

fn suite(name: &str) -> Option<SupportedCipherSuite> {
    Some(match name {
        "ECDHE-ECDSA-AES128-GCM-SHA256" | "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        }
        "ECDHE-ECDSA-AES256-GCM-SHA384" | "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        }
        "ECDHE-ECDSA-CHACHA20-POLY1305" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        "ECDHE-RSA-AES128-GCM-SHA256" | "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => {
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        }
        "ECDHE-RSA-AES256-GCM-SHA384" | "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => {
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        }
        "ECDHE-RSA-CHACHA20-POLY1305" | "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" => {
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        }
        _ => return None,
    })
}

/// Known to BoringSSL, without forward secrecy or with CBC: never offered here, harmless in a list.
/// Control planes send them beside better ones.
const NOT_SPOKEN: &[&str] = &[
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA256",
    "PSK-AES128-CBC-SHA",
    "PSK-AES256-CBC-SHA",
];

fn key_exchange_groups(names: &[String]) -> Result<Vec<&'static dyn SupportedKxGroup>, ConfigError> {
    if names.is_empty() {
        return Ok(vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1]);
    }
    let refused =
        || ConfigError::at("tls_params.ecdh_curves", format!("Failed to initialize ECDH curves {}", names.join(":")));
    let group = |name: &str| -> Option<&'static dyn SupportedKxGroup> {
        Some(match name {
            "X25519" => kx_group::X25519,
            "P-256" | "prime256v1" => kx_group::SECP256R1,
            "P-384" | "secp384r1" => kx_group::SECP384R1,
            "X25519MLKEM768" => kx_group::X25519MLKEM768,
            _ => return None,
        })
    };
    names.iter().flat_map(|name| name.split(':')).map(|name| group(name).ok_or_else(refused)).collect()
}

/// `TLSv1.3`.
pub fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "",
    }
}

/// OpenSSL's name of a cipher suite.
pub fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}

/// BoringSSL's name of a key-exchange group.
pub fn curve_name(group: NamedGroup) -> Option<&'static str> {
    Some(match group {
        NamedGroup::X25519 => "X25519",
        NamedGroup::secp256r1 => "P-256",
        NamedGroup::secp384r1 => "P-384",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ciphers: &[&str], curves: &[&str], expected: Result<usize, &str>) {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let got = provider(&owned(ciphers), &owned(curves)).map(|p| p.cipher_suites.len());
        match expected {
            Ok(count) => assert_eq!(got.ok(), Some(count), "{ciphers:?} {curves:?}"),
            Err(words) => assert!(got.unwrap_err().to_string().contains(words), "{ciphers:?} {curves:?}"),
        }
    }

    #[test]
    fn names() {
        check(&[], &[], Ok(9));
        check(&["ECDHE-ECDSA-AES128-GCM-SHA256"], &["P-256"], Ok(4));
        check(&["[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]", "AES128-SHA"], &[], Ok(5));
        check(&["NOPE", "AES128-SHA"], &[], Err("rejected when tried individually: NOPE"));
        check(&["AES128-SHA"], &[], Err("Failed to initialize cipher suites AES128-SHA"));
        check(&[], &["P-257"], Err("Failed to initialize ECDH curves P-257"));
    }
}
