//! The labels of the mesh's standard metrics that say who called whom and for which service. What else a metric is told
//! apart by, its maker adds. Source: Istio's "Standard metrics"; `IstioStatsFilter::populatePeerInfo`.

use super::{Workload, own};
use crate::stream::{Metadata, Stream, TlsInfo};

pub const UNKNOWN: &str = "unknown";

/// Stands between two labels' values; it is in none of them.
pub const SEPARATOR: char = '\u{1}';

/// Characters of one value.
const LONGEST: usize = 512;

/// The labels' names, in the order in which [`Sides::write`] gathers their values.
pub const SIDES: [&str; 20] = [
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_canonical_service",
    "source_canonical_revision",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_cluster",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
];

/// A request or a connection, from where it is counted.
pub struct Sides<'a> {
    pub stream: &'a Stream,
    /// Counted at the called side.
    pub inbound: bool,
    /// The other side, as it said; else what its endpoint says.
    pub peer: Option<&'a Workload>,
    /// The host that the caller named; may be empty.
    pub authority: &'a str,
    /// Without it, what only the other side says of itself is unknown.
    pub named: bool,
}

impl Sides<'_> {
    /// Appends the values.
    pub fn write(&self, key: &mut String) {
        let (nobody, endpoint);
        let peer = match self.peer.filter(|_| self.named) {
            Some(peer) => peer,
            None if self.named && !self.inbound => {
                endpoint = of_endpoint(self.stream).unwrap_or_default();
                &endpoint
            }
            None => {
                nobody = Workload::default();
                &nobody
            }
        };
        let upstream_tls = self.stream.upstream.tls.borrow();
        let tls = if self.inbound { self.stream.connection.tls.as_deref() } else { upstream_tls.as_deref() };
        let (mine, theirs) = principals(tls);
        let own = &own().workload;
        put(key, if self.inbound { "destination" } else { "source" });
        let ((source, from), (destination, to)) =
            if self.inbound { ((peer, theirs), (own, mine)) } else { ((own, mine), (peer, theirs)) };
        put_workload(key, source, from);
        put_workload(key, destination, to);
        let cluster = self.stream.upstream.cluster.borrow();
        let metadata = self.stream.upstream.cluster_metadata.borrow();
        // The called side is called by its own name where nobody names another.
        let authority = match self.authority {
            "" if self.inbound => own.service(),
            authority if self.named => authority,
            _ => "",
        };
        match metadata.as_deref().and_then(service_of) {
            Some(service) => service.into_iter().for_each(|value| put(key, value)),
            None => put_service(key, cluster.as_deref().unwrap_or(""), authority, destination),
        }
    }

    /// `connection_security_policy`: the caller's side can't know what the called side demanded.
    pub fn security(&self) -> &'static str {
        let tls = self.stream.connection.tls.as_deref();
        match tls {
            _ if !self.inbound => UNKNOWN,
            Some(tls) if tls.peer.is_some() && tls.local.is_some() => "mutual_tls",
            _ => "none",
        }
    }
}

/// One more value; nothing known is `unknown`, as no label may be empty: Prometheus would drop it.
pub fn put(key: &mut String, value: &str) {
    put_raw(key, if value.is_empty() { UNKNOWN } else { value });
}

pub fn put_raw(key: &mut String, value: &str) {
    key.extend(value.chars().filter(|c| !c.is_control()).take(LONGEST));
    key.push(SEPARATOR);
}

fn put_workload(key: &mut String, workload: &Workload, principal: &str) {
    for value in [&workload.name, &workload.namespace, principal, &workload.app, &workload.version] {
        put(key, value);
    }
    put(key, workload.service());
    put(key, workload.revision());
    put(key, &workload.cluster);
}

fn of_endpoint(stream: &Stream) -> Option<Workload> {
    let metadata = stream.upstream.host_metadata.borrow();
    let text = metadata.as_ref()?.get("istio")?.get("workload")?.as_str()?;
    Some(Workload::of_endpoint(text))
}

/// Our own identity and the peer's, by their certificates.
fn principals(tls: Option<&TlsInfo>) -> (&str, &str) {
    let Some(tls) = tls else { return ("", "") };
    let local = tls.local.as_deref().and_then(|facts| facts.uri_sans.first());
    let peer = tls.peer.as_deref().and_then(|facts| facts.uri_sans.first());
    (local.map_or("", String::as_str), peer.map_or("", String::as_str))
}

/// The service that a cluster's metadata name first: its host, its name and its namespace.
fn service_of(metadata: &Metadata) -> Option<[&str; 3]> {
    let service = metadata.get("istio")?.get("services")?.get(0)?;
    let text = |key: &str| service.get(key).and_then(|value| value.as_str());
    let host = text("host")?;
    let name = text("name").unwrap_or_else(|| host.split('.').next().unwrap_or(host));
    Some([host, name, text("namespace").unwrap_or("")])
}

/// The service that was called, its name and its namespace: the cluster's, or what the caller named, in the called
/// workload's namespace.
fn put_service(key: &mut String, cluster: &str, authority: &str, called: &Workload) {
    let from_cluster = cluster.strip_prefix("outbound|").and_then(|rest| rest.rsplit('|').next());
    let host = from_cluster.unwrap_or_else(|| crate::route::without_port(authority));
    let mut labels = host.split('.');
    let name = labels.next().unwrap_or("");
    let (name, namespace) = match (labels.next(), from_cluster) {
        _ if host.parse::<std::net::IpAddr>().is_ok() => (host, ""),
        (Some(namespace), Some(_)) => (name, namespace),
        (namespace, _) if called.namespace.is_empty() => (name, namespace.unwrap_or("")),
        _ => (name, called.namespace.as_str()),
    };
    [host, name, namespace].into_iter().for_each(|value| put(key, value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cluster: &str, authority: &str, namespace: &str, expected: [&str; 3]) {
        let mut key = String::new();
        let called = Workload { namespace: namespace.to_owned(), ..Workload::default() };
        put_service(&mut key, cluster, authority, &called);
        let got: Vec<&str> = key.split_terminator(SEPARATOR).collect();
        assert_eq!(got, expected, "{cluster} {authority}");
    }

    #[test]
    fn services() {
        let full = "reviews.shop.svc.cluster.local";
        check(&format!("outbound|9080||{full}"), "other", "ops", [full, "reviews", "shop"]);
        check("inbound|9080||", "reviews:9080", "shop", ["reviews", "reviews", "shop"]);
        check("PassthroughCluster", "10.0.0.1:80", "", ["10.0.0.1", "10.0.0.1", "unknown"]);
        check("inbound|9080||", "", "", ["unknown", "unknown", "unknown"]);
        check("inbound|9080||", "a\u{1}b", "shop", ["ab", "ab", "shop"]);
    }

    #[test]
    fn services_of_a_cluster() {
        let check = |istio: serde_json::Value, expected: Option<[&str; 3]>| {
            let metadata = Metadata::from([("istio".to_owned(), istio)]);
            assert_eq!(service_of(&metadata), expected, "{metadata:?}");
        };
        let full = "db.shop.svc.cluster.local";
        let named =
            serde_json::json!({"services": [{"host": full, "name": "db", "namespace": "shop"}, {"host": "other"}]});
        check(named, Some([full, "db", "shop"]));
        check(serde_json::json!({"services": [{"host": full}]}), Some([full, "db", ""]));
        check(serde_json::json!({"services": [{"name": "db"}]}), None);
        check(serde_json::json!({"services": []}), None);
        check(serde_json::json!({"services": "x"}), None);
    }

    #[test]
    fn a_known_workload_has_a_canonical_name_and_revision() {
        let mut key = String::new();
        put_workload(&mut key, &Workload { name: "web".to_owned(), ..Workload::default() }, "");
        put_workload(&mut key, &Workload::default(), "");
        let got: Vec<&str> = key.split_terminator(SEPARATOR).collect();
        let u = UNKNOWN;
        assert_eq!(got, ["web", u, u, u, u, "web", "latest", u, u, u, u, u, u, u, u, u]);
    }
}
