//! mTLS: certificate `default` and roots `ROOTCA` by SDS from the same stream.

use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateProviderPluginInstance, CertificateValidationContext, CommonTlsContext, DownstreamTlsContext,
    SdsSecretConfig, SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext, common_tls_context,
    subject_alt_name_matcher, tls_parameters,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;

use super::{any, matcher, value};
use crate::ir::{Secured, Tls};

/// The proxy's own certificate.
const CERTIFICATE: &str = "default";
/// The roots that others' certificates must have.
const ROOTS: &str = "ROOTCA";

/// For callers, whose certificate must be of one of these trust domains.
pub(super) fn downstream(trust_domains: &[String], alpn: &[&str]) -> TransportSocket {
    let ids = trust_domains.iter().map(|domain| matcher::prefix(format!("spiffe://{domain}/")));
    let context = DownstreamTlsContext {
        common_tls_context: Some(common(ids, alpn)),
        require_client_certificate: value::flag(true),
        ..Default::default()
    };
    socket("envoy.transport_sockets.tls", any(&context))
}

/// For endpoints of the mesh.
pub(super) fn upstream(tls: &Tls) -> TransportSocket {
    let ids = tls.identities.iter().map(|id| matcher::exact(id));
    let context = UpstreamTlsContext {
        common_tls_context: Some(match tls.secured {
            Secured::AllByProvider => by_provider(ids),
            Secured::All | Secured::Marked => common(ids, &tls.alpn),
        }),
        sni: tls.sni.clone(),
        ..Default::default()
    };
    socket("envoy.transport_sockets.tls", any(&context))
}

/// In plaintext.
pub(super) fn plaintext() -> TransportSocket {
    socket("envoy.transport_sockets.raw_buffer", any(&RawBuffer {}))
}

/// With the certificate and the roots that a gRPC client was itself given, under the name that bootstraps use.
/// Source: gRFC A29.
fn by_provider(ids: impl Iterator<Item = StringMatcher>) -> CommonTlsContext {
    let provider =
        || Some(CertificateProviderPluginInstance { instance_name: CERTIFICATE.to_owned(), ..Default::default() });
    let validation = CertificateValidationContext { ca_certificate_provider_instance: provider(), ..identities(ids) };
    let validation = common_tls_context::CombinedCertificateValidationContext {
        default_validation_context: Some(validation),
        ..Default::default()
    };
    CommonTlsContext {
        tls_certificate_provider_instance: provider(),
        validation_context_type: Some(common_tls_context::ValidationContextType::CombinedValidationContext(validation)),
        ..Default::default()
    }
}

fn identities(ids: impl Iterator<Item = StringMatcher>) -> CertificateValidationContext {
    let san = |matcher| SubjectAltNameMatcher {
        san_type: subject_alt_name_matcher::SanType::Uri.into(),
        matcher: Some(matcher),
        ..Default::default()
    };
    CertificateValidationContext { match_typed_subject_alt_names: ids.map(san).collect(), ..Default::default() }
}

fn common(ids: impl Iterator<Item = StringMatcher>, alpn: &[&str]) -> CommonTlsContext {
    let validation = common_tls_context::CombinedCertificateValidationContext {
        default_validation_context: Some(identities(ids)),
        validation_context_sds_secret_config: Some(secret(ROOTS)),
        ..Default::default()
    };
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: tls_parameters::TlsProtocol::TlSv12.into(),
            tls_maximum_protocol_version: tls_parameters::TlsProtocol::TlSv13.into(),
            ..Default::default()
        }),
        tls_certificate_sds_secret_configs: vec![secret(CERTIFICATE)],
        validation_context_type: Some(common_tls_context::ValidationContextType::CombinedValidationContext(validation)),
        alpn_protocols: alpn.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

fn secret(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: value::ads() }
}

fn socket(name: &str, config: envoy_types::pb::google::protobuf::Any) -> TransportSocket {
    TransportSocket { name: name.to_owned(), config_type: Some(transport_socket::ConfigType::TypedConfig(config)) }
}
