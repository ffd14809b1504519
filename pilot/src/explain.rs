//! Would this call be allowed, where would it go, and why: the answers of `outrigger authz check` and `describe`. Pure.

use api::access::{Grant, Requests};
use api::routing::{HeaderMatch, PathMatch, RequestMatch, TextMatch};
use api::{Key, pattern};
use serde::Serialize;

use crate::mesh::{MeshSnapshot, PortKey, Protocol};

/// A call that might be made.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Who calls; absent: nobody who can be told, as in plaintext.
    pub from: Option<Key>,
    /// The Service that is called.
    pub to: Key,
    /// Its port.
    pub port: u16,
    /// `GET`, …
    pub method: String,
    /// Without the query, normalised.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

/// Whether a call is allowed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether it is.
    pub allowed: bool,
    /// One line.
    pub reason: String,
    /// The objects that took part in it.
    pub objects: Vec<String>,
}

/// What every workload behind the called port says. One that denies is enough for the call to be denied there.
#[must_use]
pub fn authorize(mesh: &MeshSnapshot, call: &Call) -> Vec<(Key, Verdict)> {
    let endpoints = mesh.endpoints.get(&(call.to.clone(), call.port));
    let workloads = endpoints.into_iter().flat_map(|endpoints| endpoints.iter());
    let mut verdicts: Vec<(Key, Verdict)> = Vec::new();
    for endpoint in workloads {
        let Some(workload) = endpoint.workload.as_ref().and_then(|key| mesh.workloads.get(key)) else { continue };
        let protocol =
            mesh.services.get(&call.to).and_then(|service| service.ports.get(&call.port)).map(|p| p.protocol);
        let verdict = at(mesh, &workload.account, endpoint.port, protocol.unwrap_or_default(), call);
        verdicts.push((workload.key.clone(), verdict));
    }
    verdicts
}

fn at(mesh: &MeshSnapshot, account: &Key, port: u16, protocol: Protocol, call: &Call) -> Verdict {
    let grants = mesh.grants_of(account);
    let objects = grants.iter().map(|grant| grant.source.to_string()).collect();
    let verdict = |allowed, reason: String| Verdict { allowed, reason, objects };
    if !mesh.denies_by_default(account) {
        return verdict(true, format!("nothing denies by default: accessControl lets every call to {account} through"));
    }
    let Some(from) = &call.from else {
        return verdict(
            false,
            "a caller without a certificate has no identity, and matches no TrafficTarget".to_owned(),
        );
    };
    let named: Vec<&Grant> = grants.iter().map(AsRef::as_ref).filter(|grant| grant.callers.contains(from)).collect();
    if named.is_empty() {
        return verdict(false, format!("no TrafficTarget names {from} as a source for {account}"));
    }
    let at_port: Vec<&&Grant> = named.iter().filter(|grant| grant.ports.contains(port)).collect();
    if at_port.is_empty() {
        return verdict(false, format!("{} allows other ports than {port}", list(&named)));
    }
    let allows = |grant: &&&Grant| match &grant.requests {
        Requests::Any => true,
        Requests::Matching(matches) => protocol != Protocol::Tcp && matches.iter().any(|one| accepts(one, call)),
    };
    match at_port.iter().find(|grant| allows(grant)) {
        Some(grant) => verdict(true, format!("{} allows it", grant.source)),
        None => verdict(false, format!("no rule of {} accepts {} {}", list(&named), call.method, call.path)),
    }
}

fn list(grants: &[&Grant]) -> String {
    grants.iter().map(|grant| grant.source.to_string()).collect::<Vec<_>>().join(", ")
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Destination {
    /// The object that decides, if it is not the Service alone.
    pub by: Option<String>,
    /// Services with their ports and shares, in percent. Empty: it is answered with an error.
    pub shares: Vec<(Key, u16, f64)>,
}

/// Where a call goes from a caller's namespace.
#[must_use]
pub fn destination(mesh: &MeshSnapshot, call: &Call) -> Destination {
    let port: PortKey = (call.to.clone(), call.port);
    let namespace = call.from.as_ref().map_or(call.to.namespace.as_str(), |from| from.namespace.as_str());
    let own = || Destination { by: None, shares: vec![(call.to.clone(), call.port, 100.0)] };
    let Some(routing) = mesh.routing(&port, namespace) else { return own() };
    let by = Some(routing.source.to_string());
    let rule = routing.rules.iter().find(|rule| rule.matches.iter().any(|one| accepts(one, call)));
    let Some(rule) = rule else {
        return match routing.otherwise {
            api::routing::Otherwise::OwnEndpoints => Destination { by, ..own() },
            api::routing::Otherwise::NotFound => Destination { by, shares: Vec::new() },
        };
    };
    let all: f64 =
        rule.backends.iter().map(|backend| f64::from(backend.weight)).sum::<f64>() + f64::from(rule.unresolved);
    let share = |backend: &api::routing::Backend| {
        (backend.service.clone(), backend.port, 100.0 * f64::from(backend.weight) / all.max(1.0))
    };
    Destination { by, shares: rule.backends.iter().map(share).collect() }
}

/// Whether a match accepts a call. Query parameters are not known here, and accepted by none.
#[must_use]
pub fn accepts(wanted: &RequestMatch, call: &Call) -> bool {
    let path = wanted.path.as_ref().is_none_or(|path| match path {
        PathMatch::Exact(exact) => *exact == call.path,
        PathMatch::Prefix(prefix) => {
            call.path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathMatch::Regex(regex) => whole(regex, &call.path),
    });
    let method = wanted.methods.is_empty() || wanted.methods.contains(&call.method);
    let header = |header: &HeaderMatch| {
        call.headers.iter().any(|(name, value)| *name == header.name && text(&header.value, value))
    };
    path && method && wanted.headers.iter().all(header) && wanted.query.is_empty()
}

fn text(wanted: &TextMatch, value: &str) -> bool {
    match wanted {
        TextMatch::Exact(exact) => exact == value,
        TextMatch::Regex(regex) => whole(regex, value),
    }
}

fn whole(regex: &str, text: &str) -> bool {
    pattern::compile(regex).is_ok_and(|regex| regex.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{self, Domains};

    const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: mesh.outrigger.dev/v1alpha1
kind: Workload
metadata: {name: api-1, namespace: shop, labels: {app: api}}
spec: {address: 127.0.0.9, serviceAccount: api, ports: [{name: http, port: 8080}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: reads, namespace: shop}
spec: {matches: [{name: reads, pathRegex: "/public/.*", methods: [GET]}]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: web, namespace: shop}
spec: {destination: {kind: ServiceAccount, name: api}, sources: [{kind: ServiceAccount, name: web}], rules: [{kind: HTTPRouteGroup, name: reads}]}
"#;

    #[test]
    fn verdicts() {
        let (objects, _) = api::manifest::objects("in.yaml", MESH);
        let (mesh, _) = mesh::build(&objects, &Domains::default());
        let cases = [
            (Some("web"), "GET", "/public/a", true, "TrafficTarget shop/web allows it"),
            (Some("web"), "POST", "/public/a", false, "no rule of TrafficTarget shop/web accepts POST /public/a"),
            (Some("batch"), "GET", "/public/a", false, "no TrafficTarget names shop/batch"),
            (None, "GET", "/public/a", false, "has no identity"),
        ];
        for (from, method, path, allowed, reason) in cases {
            let call = Call {
                from: from.map(|name| Key::new("shop", name)),
                to: Key::new("shop", "api"),
                port: 80,
                method: method.to_owned(),
                path: path.to_owned(),
                headers: Vec::new(),
            };
            let verdicts = authorize(&mesh, &call);
            assert_eq!(verdicts.len(), 1);
            assert_eq!(verdicts[0].1.allowed, allowed, "{from:?} {method} {path}");
            assert!(verdicts[0].1.reason.contains(reason), "{}", verdicts[0].1.reason);
        }
    }
}
