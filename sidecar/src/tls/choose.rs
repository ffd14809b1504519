//! Which of several certificates a server shows: by the name asked for and by what the client can
//! verify. Pure. Source: Envoy's `DefaultTlsCertificateSelector`.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Identity;

/// The certificates of one server context.
#[derive(Debug)]
pub struct Certificates {
    pub identities: Vec<Arc<Identity>>,
    /// Source: `full_scan_certs_on_sni_mismatch`.
    pub full_scan: bool,
}

impl Certificates {
    pub fn choose(&self, hello: &ClientHello<'_>) -> Option<&Arc<Identity>> {
        if self.identities.len() < 2 {
            return self.identities.first();
        }
        let ecdsa = hello.signature_schemes().iter().any(|scheme| {
            matches!(scheme, SignatureScheme::ECDSA_NISTP256_SHA256 | SignatureScheme::ECDSA_NISTP384_SHA384)
        });
        let kinds: Vec<_> = self.identities.iter().map(|i| (&i.names[..], i.ecdsa)).collect();
        self.identities.get(choose(&kinds, hello.server_name(), ecdsa, self.full_scan))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(&hello).map(|identity| identity.certified.clone())
    }
}

/// The index of the certificate to show. `certificates`: the names of each, and whether its key is ECDSA.
fn choose(certificates: &[(&[String], bool)], sni: Option<&str>, client_ecdsa: bool, full_scan: bool) -> usize {
    let fits = |wanted: &dyn Fn(&[String]) -> bool| {
        let mut found = None;
        for (at, (names, ecdsa)) in certificates.iter().enumerate().filter(|(_, (names, _))| wanted(names)) {
            let _ = names;
            match (*ecdsa, client_ecdsa) {
                (true, true) => return Some(at),
                (true, false) => {}
                (false, true) => found = found.or(Some(at)),
                (false, false) => return Some(at),
            }
        }
        found
    };
    let Some(sni) = sni else { return fits(&|_| true).unwrap_or(0) };
    let exact = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case(sni));
    let wildcard = |names: &[String]| {
        let Some((_, rest)) = sni.split_once('.') else { return false };
        names.iter().filter_map(|name| name.strip_prefix("*.")).any(|suffix| suffix.eq_ignore_ascii_case(rest))
    };
    fits(&exact).or_else(|| fits(&wildcard)).or_else(|| if full_scan { fits(&|_| true) } else { None }).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_then_key() {
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let all = [names(&["two.test"]), names(&["a.test", "*.wild.test"]), names(&["a.test"]), names(&["z.test"])];
        let certificates: Vec<_> = all.iter().zip([true, false, true, false]).map(|(n, e)| (&n[..], e)).collect();
        let check = |sni, ecdsa, full, expected| {
            assert_eq!(choose(&certificates, sni, ecdsa, full), expected, "{sni:?} {ecdsa} {full}");
        };
        check(Some("a.test"), true, false, 2);
        check(Some("A.test"), false, false, 1);
        check(Some("x.wild.test"), true, false, 1);
        check(Some("x.y.wild.test"), true, false, 0);
        check(Some("z.test"), true, false, 3);
        check(Some("none.test"), false, false, 0);
        check(Some("none.test"), false, true, 1);
        check(None, false, false, 1);
        check(None, true, false, 0);
    }
}
