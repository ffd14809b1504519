//! Why a handshake failed, in the words that Envoy's access log would have (BoringSSL's error queue).

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// Why there is no TLS session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// A secret has not come yet.
    NotReady,
    /// The client showed no certificate where one is required.
    NoCertificate,
    /// The peer's certificate was refused; counted by the verifier.
    Refused(String),
    /// The protocol failed: Envoy's `TLS_error:…` text.
    Protocol(String),
    /// The connection ended before the handshake did.
    Closed(String),
}

impl TlsFailure {
    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%` or `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub fn reason(&self) -> String {
        match self {
            TlsFailure::NotReady => "TLS error: Secret is not supplied by SDS".to_owned(),
            TlsFailure::NoCertificate => ssl_error(192, "PEER_DID_NOT_RETURN_A_CERTIFICATE", None),
            TlsFailure::Refused(why) => ssl_error(125, "CERTIFICATE_VERIFY_FAILED", Some(why)),
            TlsFailure::Protocol(text) | TlsFailure::Closed(text) => text.clone(),
        }
    }

    /// Does Envoy count it as `ssl.connection_error`?
    pub fn counts_as_connection_error(&self) -> bool {
        matches!(self, TlsFailure::Protocol(_))
    }
}

impl std::fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason())
    }
}

impl std::error::Error for TlsFailure {}

impl From<io::Error> for TlsFailure {
    fn from(error: io::Error) -> Self {
        let rustls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match rustls {
            Some(error) => TlsFailure::from(error),
            None => {
                let text = error.to_string();
                TlsFailure::Closed(text.split(" (os error").next().unwrap_or(&text).to_owned())
            }
        }
    }
}

impl From<&Error> for TlsFailure {
    fn from(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => TlsFailure::NoCertificate,
            Error::InvalidCertificate(CertificateError::Other(refused)) => TlsFailure::Refused(refused.0.to_string()),
            Error::InvalidCertificate(why) => TlsFailure::Refused(format!("verify cert failed: {why:?}")),
            other => TlsFailure::Protocol(protocol_words(other)),
        }
    }
}

fn protocol_words(error: &Error) -> String {
    let (code, words) = match error {
        Error::AlertReceived(alert) => match alert_words(*alert) {
            Some(words) => (1000 + u32::from(u8::from(*alert)), words),
            None => (1000 + u32::from(u8::from(*alert)), "TLSV1_ALERT"),
        },
        Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => (247, "WRONG_VERSION_NUMBER"),
        Error::InvalidMessage(rustls::InvalidMessage::UnknownProtocolVersion) => (247, "WRONG_VERSION_NUMBER"),
        Error::PeerIncompatible(why) => match why {
            PeerIncompatible::NoCipherSuitesInCommon => (184, "NO_SHARED_CIPHER"),
            PeerIncompatible::NoKxGroupsInCommon => (315, "NO_SHARED_GROUP"),
            PeerIncompatible::NoSignatureSchemesInCommon => (253, "NO_COMMON_SIGNATURE_ALGORITHMS"),
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic => (240, "UNSUPPORTED_PROTOCOL"),
            _ => (184, "NO_SHARED_CIPHER"),
        },
        Error::NoApplicationProtocol => (307, "NO_APPLICATION_PROTOCOL"),
        Error::DecryptError => (281, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => (225, "UNEXPECTED_MESSAGE"),
        Error::InvalidMessage(_) => (137, "DECODE_ERROR"),
        other => return format!("TLS_error:|{other}:TLS_error_end"),
    };
    ssl_error(code, words, None)
}

/// BoringSSL numbers the errors of its SSL part from 16 << 24.
fn ssl_error(code: u32, words: &str, detail: Option<&str>) -> String {
    let number = (16 << 24) + code;
    let detail = detail.map(|d| format!(":{d}")).unwrap_or_default();
    format!("TLS_error:|{number}:SSL routines:OPENSSL_internal:{words}{detail}:TLS_error_end")
}

fn alert_words(alert: AlertDescription) -> Option<&'static str> {
    Some(match alert {
        AlertDescription::UnexpectedMessage => "SSLV3_ALERT_UNEXPECTED_MESSAGE",
        AlertDescription::BadRecordMac => "SSLV3_ALERT_BAD_RECORD_MAC",
        AlertDescription::HandshakeFailure => "SSLV3_ALERT_HANDSHAKE_FAILURE",
        AlertDescription::NoCertificate => "SSLV3_ALERT_NO_CERTIFICATE",
        AlertDescription::BadCertificate => "SSLV3_ALERT_BAD_CERTIFICATE",
        AlertDescription::UnsupportedCertificate => "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        AlertDescription::CertificateRevoked => "SSLV3_ALERT_CERTIFICATE_REVOKED",
        AlertDescription::CertificateExpired => "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        AlertDescription::CertificateUnknown => "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        AlertDescription::IllegalParameter => "SSLV3_ALERT_ILLEGAL_PARAMETER",
        AlertDescription::UnknownCA => "TLSV1_ALERT_UNKNOWN_CA",
        AlertDescription::AccessDenied => "TLSV1_ALERT_ACCESS_DENIED",
        AlertDescription::DecodeError => "TLSV1_ALERT_DECODE_ERROR",
        AlertDescription::DecryptError => "TLSV1_ALERT_DECRYPT_ERROR",
        AlertDescription::ProtocolVersion => "TLSV1_ALERT_PROTOCOL_VERSION",
        AlertDescription::InsufficientSecurity => "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        AlertDescription::InternalError => "TLSV1_ALERT_INTERNAL_ERROR",
        AlertDescription::UserCanceled => "TLSV1_ALERT_USER_CANCELLED",
        AlertDescription::MissingExtension => "TLSV1_ALERT_MISSING_EXTENSION",
        AlertDescription::UnsupportedExtension => "TLSV1_ALERT_UNSUPPORTED_EXTENSION",
        AlertDescription::UnrecognisedName => "TLSV1_ALERT_UNRECOGNIZED_NAME",
        AlertDescription::CertificateRequired => "TLSV1_ALERT_CERTIFICATE_REQUIRED",
        AlertDescription::NoApplicationProtocol => "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let text = |error: Error| TlsFailure::from(&error).reason();
        assert_eq!(
            text(Error::AlertReceived(AlertDescription::ProtocolVersion)),
            "TLS_error:|268436526:SSL routines:OPENSSL_internal:TLSV1_ALERT_PROTOCOL_VERSION:TLS_error_end"
        );
        let refused = TlsFailure::Refused("verify cert failed: verify SAN list".into());
        assert_eq!(
            refused.reason(),
            "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: verify SAN list:TLS_error_end"
        );
        assert!(!refused.counts_as_connection_error());
    }
}
