//! Grants → what is allowed at one port of a workload. Without mTLS there is no identity that could be allowed anything.

use api::Key;
use api::access::{Grant, Requests};

use crate::ir::{HttpAccess, HttpRule, TcpAccess};
use crate::mesh::{MeshSnapshot, Workload};

pub(super) fn http(mesh: &MeshSnapshot, workload: &Workload, port: u16) -> HttpAccess {
    if !mesh.denies_by_default(&workload.account) {
        return HttpAccess::Open;
    }
    let rule = |grant: &Grant| HttpRule {
        name: grant.source.to_string(),
        callers: identities(mesh, &grant.callers),
        requests: match &grant.requests {
            Requests::Any => None,
            Requests::Matching(matches) => Some(matches.clone()),
        },
    };
    HttpAccess::Only(at(mesh, workload, port).map(rule).collect())
}

pub(super) fn tcp(mesh: &MeshSnapshot, workload: &Workload, port: u16) -> TcpAccess {
    if !mesh.denies_by_default(&workload.account) {
        return TcpAccess::Open;
    }
    let whole = at(mesh, workload, port).filter(|grant| grant.requests == Requests::Any);
    TcpAccess::Only(whole.map(|grant| (grant.source.to_string(), identities(mesh, &grant.callers))).collect())
}

/// The grants that allow anything at a port.
fn at<'a>(mesh: &'a MeshSnapshot, workload: &Workload, port: u16) -> impl Iterator<Item = &'a Grant> {
    let grants = mesh.grants_of(&workload.account).iter().map(AsRef::as_ref);
    grants.filter(move |grant: &&Grant| grant.ports.contains(port) && !grant.allows_nothing())
}

/// The SPIFFE ids of service accounts, in every trust domain whose certificates are accepted.
pub(super) fn identities<'a>(mesh: &MeshSnapshot, accounts: impl IntoIterator<Item = &'a Key>) -> Vec<String> {
    let of = |account: &Key| {
        let Key { namespace, name } = account.clone();
        mesh.settings.trust_domains().map(move |domain| format!("spiffe://{domain}/ns/{namespace}/sa/{name}"))
    };
    accounts.into_iter().flat_map(of).collect()
}
