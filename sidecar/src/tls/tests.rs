//! Handshakes between our two sides, in memory.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::config::{TlsScope, downstream_context, secret, upstream_context};
use super::*;
use crate::observe::stats::Scope;
use crate::stream::TlsInfo;

struct Authority {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

fn authority(name: &str) -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { pem, issuer: rcgen::Issuer::new(params, key) }
}

fn inline(text: &str) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineString(text.to_owned())), ..Default::default() })
}

/// A certificate with a URI SAN (or a DNS SAN if it has no scheme), as an inline `TlsCertificate`.
fn leaf(authority: &Authority, san: &str) -> pb::TlsCertificate {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.subject_alt_names = vec![match san.contains("://") {
        true => rcgen::SanType::URI(san.try_into().unwrap()),
        false => rcgen::SanType::DnsName(san.try_into().unwrap()),
    }];
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    pb::TlsCertificate {
        certificate_chain: inline(&certificate.pem()),
        private_key: inline(&key.serialize_pem()),
        ..Default::default()
    }
}

fn trusting(authority: &Authority, uri: Option<&str>) -> pb::CertificateValidationContext {
    let matcher = |text: &str| pb::SubjectAltNameMatcher {
        san_type: pb::subject_alt_name_matcher::SanType::Uri as i32,
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(text.to_owned())),
            ..Default::default()
        }),
        ..Default::default()
    };
    pb::CertificateValidationContext {
        trusted_ca: inline(&authority.pem),
        match_typed_subject_alt_names: uri.map(matcher).into_iter().collect(),
        ..Default::default()
    }
}

fn common(
    certificates: Vec<pb::TlsCertificate>,
    validation: Option<pb::CertificateValidationContext>,
) -> pb::CommonTlsContext {
    pb::CommonTlsContext {
        tls_certificates: certificates,
        validation_context_type: validation.map(pb::common_tls_context::ValidationContextType::ValidationContext),
        tls_params: Some(pb::TlsParameters {
            tls_maximum_protocol_version: pb::tls_parameters::TlsProtocol::TlSv13 as i32,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn server(name: &str, require: bool, common: pb::CommonTlsContext, secrets: &SecretStore) -> DownstreamTls {
    let context = pb::DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: Some(envoy_types::pb::google::protobuf::BoolValue { value: require }),
        ..Default::default()
    };
    downstream_context(&context, TlsScope { stats: &Scope::listener(name), secrets }).unwrap()
}

fn client(name: &str, sni: &str, common: pb::CommonTlsContext) -> UpstreamTls {
    let context =
        pb::UpstreamTlsContext { common_tls_context: Some(common), sni: sni.to_owned(), ..Default::default() };
    upstream_context(&context, TlsScope { stats: &Scope::cluster(name), secrets: &SecretStore::default() }).unwrap()
}

type Outcome = Result<Arc<TlsInfo>, TlsFailure>;

/// Both sides' outcome; bytes go both ways where both have a session.
async fn shake(server: &DownstreamTls, client: &UpstreamTls, request: &TlsRequest) -> (Outcome, Outcome) {
    let (a, b) = tokio::io::duplex(1 << 16);
    let accepting = async {
        let (mut stream, info) = server.accept(a).await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        stream.write_all(&byte).await?;
        stream.flush().await?;
        Ok(info)
    };
    let connecting = async {
        let (mut stream, info) = client.connect(b, request).await?;
        stream.write_all(b"x").await?;
        stream.flush().await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        Ok(info)
    };
    tokio::join!(accepting, connecting)
}

#[tokio::test]
async fn mutual_tls_knows_both_ends() {
    install();
    let ca = authority("root");
    let (web, db) = ("spiffe://td/ns/a/sa/web", "spiffe://td/ns/a/sa/db");
    let mut ours = common(vec![leaf(&ca, db)], Some(trusting(&ca, Some(web))));
    ours.alpn_protocols = vec!["h2".into()];
    let secrets = SecretStore::default();
    let server = server("mutual", true, ours, &secrets);
    let client = client("mutual", "db.test", common(vec![leaf(&ca, web)], Some(trusting(&ca, Some(db)))));
    let request = TlsRequest { alpn_fallback: vec![b"h2".to_vec()], ..Default::default() };
    let (accepted, connected) = shake(&server, &client, &request).await;
    let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
    assert_eq!(accepted.peer.as_ref().unwrap().uri_sans, [web]);
    assert_eq!(accepted.local.as_ref().unwrap().uri_sans, [db]);
    assert_eq!(connected.peer.as_ref().unwrap().uri_sans, [db]);
    assert!(accepted.peer_validated && connected.peer_validated);
    assert_eq!((&accepted.sni[..], &accepted.alpn[..], &connected.version[..]), ("db.test", "h2", "TLSv1.3"));
    assert_eq!(accepted.cipher, "TLS_AES_128_GCM_SHA256");
    // No protocol in common is no failure.
    let spdy = TlsRequest { alpn: vec![b"spdy/3".to_vec()], ..Default::default() };
    let (accepted, _) = shake(&server, &client, &spdy).await;
    assert_eq!(accepted.unwrap().alpn, "");
}

#[tokio::test]
async fn peers_that_are_refused() {
    install();
    let (ca, other) = (authority("root"), authority("other"));
    let secrets = SecretStore::default();
    let server = server(
        "refusals",
        true,
        common(vec![leaf(&ca, "a.test")], Some(trusting(&ca, Some("spiffe://td/x")))),
        &secrets,
    );
    let stats = &server.common.stats;
    let check = async |certificates, expected: fn(&TlsFailure) -> bool| {
        let client = client("refused", "", common(certificates, None));
        let (accepted, _) = shake(&server, &client, &TlsRequest::default()).await;
        let failure = accepted.unwrap_err();
        assert!(expected(&failure), "{failure:?}");
    };
    check(vec![], |f| *f == TlsFailure::NoCertificate).await;
    check(vec![leaf(&ca, "spiffe://td/y")], |f| matches!(f, TlsFailure::Refused(w) if w.contains("SAN"))).await;
    check(vec![leaf(&other, "spiffe://td/x")], |f| matches!(f, TlsFailure::Refused(w) if w.contains("issuer"))).await;
    assert_eq!(stats.fail_verify_no_cert.value(), 1);
    assert_eq!(stats.fail_verify_san.value(), 1);
    assert_eq!(stats.fail_verify_error.value(), 1);
    assert_eq!((stats.connection_error.value(), stats.handshake.value()), (0, 0));
    let client =
        client("refused", "", common(vec![leaf(&ca, "spiffe://td/x")], Some(trusting(&ca, Some("spiffe://td/z")))));
    let (_, connected) = shake(&server, &client, &TlsRequest::default()).await;
    assert!(connected.unwrap_err().reason().contains("CERTIFICATE_VERIFY_FAILED:verify cert failed: verify SAN list"));
    assert_eq!(client.common.stats.fail_verify_san.value(), 1);
}

#[tokio::test]
async fn a_secret_comes_and_changes() {
    install();
    let ca = authority("root");
    let secrets = SecretStore::new();
    let sds = pb::SdsSecretConfig { name: "own".into(), sds_config: Some(Default::default()) };
    let mut context = common(vec![], None);
    context.tls_certificate_sds_secret_configs = vec![sds];
    let server = server("sds", false, context, &secrets);
    let client = client("sds", "", common(vec![], Some(trusting(&ca, None))));
    let [slot] = &server.wanted()[..] else { panic!() };
    let names = async || {
        let (accepted, connected) = shake(&server, &client, &TlsRequest::default()).await;
        accepted.map(|info| {
            (info.local.clone().unwrap().dns_sans.clone(), connected.unwrap().peer.clone().unwrap().dns_sans.clone())
        })
    };
    assert_eq!(names().await, Err(TlsFailure::NotReady));
    for name in ["one.test", "two.test"] {
        let value = pb::Secret { name: "own".into(), r#type: Some(pb::secret::Type::TlsCertificate(leaf(&ca, name))) };
        slot.set(secret(&value).unwrap());
        assert_eq!(names().await, Ok((vec![name.to_owned()], vec![name.to_owned()])));
    }
    assert_eq!(server.common.secrets_not_ready.value(), 1);
    assert_eq!(server.common.updates_by_sds.value(), 1);
}

#[tokio::test]
async fn the_name_asked_for_is_checked() {
    install();
    let ca = authority("root");
    let secrets = SecretStore::default();
    let server = server("auto", false, common(vec![leaf(&ca, "*.good.test")], None), &secrets);
    let check = async |sni: &str, ok: bool| {
        let mut client = client("auto", sni, common(vec![], Some(trusting(&ca, None))));
        client.auto_sni_san_validation = true;
        assert_eq!(shake(&server, &client, &TlsRequest::default()).await.1.is_ok(), ok, "{sni}");
    };
    check("a.good.test", true).await;
    check("good.test", false).await;
    check("a.b.good.test", false).await;
}

#[test]
fn contexts_that_are_refused() {
    let ca = authority("root");
    let check = |common: pb::CommonTlsContext, words: &str| {
        let context = pb::DownstreamTlsContext { common_tls_context: Some(common), ..Default::default() };
        let secrets = SecretStore::default();
        let refused = downstream_context(&context, TlsScope { stats: &Scope::listener("bad"), secrets: &secrets });
        let text = refused.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains(words), "{text:?} has not {words:?}");
    };
    check(common(vec![], None), "No TLS certificates found for server context");
    let mut without_ca = trusting(&ca, Some("x"));
    without_ca.trusted_ca = None;
    check(common(vec![leaf(&ca, "a")], Some(without_ca)), "without trusted CA is insecure");
    let mut bad_hash = trusting(&ca, None);
    bad_hash.verify_certificate_hash = vec!["zz".repeat(32)];
    check(common(vec![leaf(&ca, "a")], Some(bad_hash)), "verify_certificate_hash[0]: Invalid hex-encoded SHA-256");
    let mut swapped = leaf(&ca, "a");
    swapped.private_key = leaf(&ca, "b").private_key;
    check(
        common(vec![swapped], None),
        "common_tls_context.tls_certificates[0]: Failed to load private key from <inline>",
    );
    let mut unknown = common(vec![], None);
    unknown.tls_certificate_sds_secret_configs = vec![pb::SdsSecretConfig { name: "x".into(), sds_config: None }];
    check(unknown, "Unknown static secret: x");
}

fn install() {
    params::install_provider();
}
