//! The `ssl.*` metrics of a listener or cluster.

use std::sync::OnceLock;

use rustls::SignatureScheme;

use crate::observe::stats::{Counter, Scope};

/// Source: Envoy's `ssl_socket` and `SslStats`, "TLS statistics".
pub struct SslStats {
    scope: Scope,
    pub connection_error: Counter,
    pub handshake: Counter,
    pub session_reused: Counter,
    pub no_certificate: Counter,
    pub fail_verify_no_cert: Counter,
    pub fail_verify_error: Counter,
    pub fail_verify_san: Counter,
    pub fail_verify_cert_hash: Counter,
    versions: Family<2>,
    ciphers: Family<9>,
    curves: Family<6>,
    sigalgs: Family<12>,
}

/// Counters that exist once they were counted, each under its own name.
struct Family<const N: usize>([OnceLock<(&'static str, Counter)>; N]);

impl<const N: usize> Family<N> {
    fn new() -> Self {
        Family(std::array::from_fn(|_| OnceLock::new()))
    }

    fn inc(&self, name: &'static str, make: impl Fn() -> Counter) {
        for cell in &self.0 {
            let (known, counter) = cell.get_or_init(|| (name, make()));
            if *known == name {
                counter.inc();
                return;
            }
        }
    }
}

impl SslStats {
    /// `scope` is the listener's or the cluster's; the names begin with `ssl.` there.
    pub fn new(scope: &Scope) -> Self {
        let scope = scope.child("ssl");
        SslStats {
            connection_error: scope.counter("connection_error"),
            handshake: scope.counter("handshake"),
            session_reused: scope.counter("session_reused"),
            no_certificate: scope.counter("no_certificate"),
            fail_verify_no_cert: scope.counter("fail_verify_no_cert"),
            fail_verify_error: scope.counter("fail_verify_error"),
            fail_verify_san: scope.counter("fail_verify_san"),
            fail_verify_cert_hash: scope.counter("fail_verify_cert_hash"),
            versions: Family::new(),
            ciphers: Family::new(),
            curves: Family::new(),
            sigalgs: Family::new(),
            scope,
        }
    }

    /// Counts what a completed handshake agreed on.
    pub fn agreed(&self, version: &'static str, cipher: &'static str, curve: Option<&'static str>) {
        self.versions.inc(version, || self.tagged("versions", version, "envoy_ssl_version"));
        self.ciphers.inc(cipher, || self.tagged("ciphers", cipher, "envoy_ssl_cipher"));
        if let Some(curve) = curve {
            self.curves.inc(curve, || self.tagged("curves", curve, "envoy_ssl_curve"));
        }
    }

    /// Counts the algorithm with which the peer signed the handshake.
    pub fn signed(&self, scheme: SignatureScheme) {
        if let Some(name) = signature_name(scheme) {
            self.sigalgs.inc(name, || self.tagged("sigalgs", name, "envoy_ssl_sigalg"));
        }
    }

    fn tagged(&self, family: &str, name: &str, tag: &str) -> Counter {
        self.scope.tagged_counter(&format!("{family}.{name}"), family, tag, name)
    }
}

/// BoringSSL's name of a signature algorithm.
fn signature_name(scheme: SignatureScheme) -> Option<&'static str> {
    Some(match scheme {
        SignatureScheme::RSA_PKCS1_SHA256 => "rsa_pkcs1_sha256",
        SignatureScheme::RSA_PKCS1_SHA384 => "rsa_pkcs1_sha384",
        SignatureScheme::RSA_PKCS1_SHA512 => "rsa_pkcs1_sha512",
        SignatureScheme::RSA_PSS_SHA256 => "rsa_pss_rsae_sha256",
        SignatureScheme::RSA_PSS_SHA384 => "rsa_pss_rsae_sha384",
        SignatureScheme::RSA_PSS_SHA512 => "rsa_pss_rsae_sha512",
        SignatureScheme::ECDSA_NISTP256_SHA256 => "ecdsa_secp256r1_sha256",
        SignatureScheme::ECDSA_NISTP384_SHA384 => "ecdsa_secp384r1_sha384",
        SignatureScheme::ECDSA_NISTP521_SHA512 => "ecdsa_secp521r1_sha512",
        SignatureScheme::ED25519 => "ed25519",
        _ => return None,
    })
}
