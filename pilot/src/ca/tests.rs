//! What comes out of the CA, whatever is put in.

use super::proof::{Proof, Refused};
use super::*;

fn folder(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("outrigger-ca-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

#[test]
fn a_leaf_has_the_proven_identity_and_nothing_that_was_asked_for() {
    let folder = folder("leaf");
    let ca = Ca::open(&folder).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["admin.example".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    let leaf = ca.sign_csr(&csr, "cluster.local", &Key::new("shop", "web"), LIFETIME).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(leaf.chain[0].as_bytes()).unwrap();
    let cert = pem.parse_x509().unwrap();
    assert!(!cert.is_ca() && cert.subject().iter().next().is_none());
    let san = cert.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical);
    let names: Vec<String> = san.value.general_names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["URI(spiffe://cluster.local/ns/shop/sa/web)"]);
    assert_eq!(leaf.chain.len(), 2);
    assert!(ca.sign_csr("nonsense", "cluster.local", &Key::new("shop", "web"), LIFETIME).is_err());
    assert!(ca.make("cluster.local", &Key::new("shop", "a/../b")).is_err());
    // The same authority when opened again, and keys that only their owner reads.
    assert_eq!(Ca::open(&folder).unwrap().roots(), ca.roots());
    for file in folder.read_dir().unwrap().map(|entry| entry.unwrap()) {
        use std::os::unix::fs::PermissionsExt;
        let secret = file.file_name().to_string_lossy().contains("key");
        assert!(!secret || file.metadata().unwrap().permissions().mode() & 0o777 == 0o600, "{file:?}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn only_requests_of_strong_keys_that_signed_them_are_signed() {
    let folder = folder("csr");
    let ca = Ca::open(&folder).unwrap();
    let cases = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/csr");
    let mut seen = 0;
    for case in cases.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        let csr = std::fs::read_to_string(&case).unwrap();
        let signed = ca.sign_csr(&csr, "cluster.local", &Key::new("shop", "web"), LIFETIME);
        let wanted = case.file_name().unwrap().to_string_lossy().starts_with("signed-");
        assert_eq!(signed.is_ok(), wanted, "{case:?}: {:?}", signed.err());
        seen += 1;
    }
    assert_eq!(seen, 6);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn tokens() {
    let folder = folder("tokens");
    let ca = Ca::open(&folder).unwrap();
    let now = SystemTime::now();
    let account = Key::new("shop", "web");
    let token = ca.tokens().create(&account, now, Duration::from_secs(60));
    assert_eq!(ca.tokens().verify(&token, now).unwrap(), account);
    assert!(ca.tokens().verify(&token, now + Duration::from_secs(61)).is_err());
    let (rest, _) = token.rsplit_once('.').unwrap();
    for bad in ["", "a.b", "eyJhbGciOiJub25lIn0.e30.", &format!("{rest}."), &format!("{rest}.AAAA"), &token[1..]] {
        assert!(ca.tokens().verify(bad, now).is_err(), "{bad}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn proofs() {
    let folder = folder("proofs");
    let ca = Ca::open(&folder).unwrap();
    let account = Key::new("shop", "web");
    let now = SystemTime::now();
    let certificate = |domain: &str| {
        let (_, leaf) = ca.make(domain, &account).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(leaf.chain[0].as_bytes()).unwrap();
        tonic::transport::CertificateDer::from(pem.contents)
    };
    let token = |ago: u64| ca.tokens().create(&account, now - Duration::from_secs(ago), Duration::from_secs(60));
    let check = |token: Option<String>, domain: Option<&str>, expected: Result<Proof, bool>| {
        let mut metadata = tonic::metadata::MetadataMap::new();
        if let Some(token) = &token {
            metadata.insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let shown: Vec<_> = domain.map(certificate).into_iter().collect();
        let proof = Proof::of(&ca, &metadata, Some(&shown), "cluster.local");
        assert_eq!(proof.map_err(|e| e == Refused::Expired), expected, "{token:?} {domain:?}");
    };
    let proven = || Ok(Proof::Account(account.clone()));
    check(None, None, Ok(Proof::None));
    check(Some(token(0)), None, proven());
    check(None, Some("cluster.local"), proven());
    check(None, Some("partner.example"), Err(false));
    check(Some(token(120)), None, Err(true));
    check(Some(token(120)), Some("cluster.local"), proven());
    check(Some(token(120)), Some("partner.example"), Err(true));
    check(Some("forged".to_owned()), Some("cluster.local"), Err(false));
    std::fs::remove_dir_all(&folder).unwrap();
}
