//! The node id by which a sidecar names itself, and the keys of its metadata.
//!
//! Source: Istio's `model.Proxy` service node (`TYPE~IP~ID~DOMAIN`) and `NodeMetadata`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Keys of `node.metadata`, as Istio's.
pub mod metadata {
    pub const NAMESPACE: &str = "NAMESPACE";
    pub const SERVICE_ACCOUNT: &str = "SERVICE_ACCOUNT";
    pub const LABELS: &str = "LABELS";
    pub const CLUSTER_ID: &str = "CLUSTER_ID";
    pub const INSTANCE_IPS: &str = "INSTANCE_IPS";
    pub const WORKLOAD_NAME: &str = "WORKLOAD_NAME";
    pub const MESH_ID: &str = "MESH_ID";
    pub const NAME: &str = "NAME";
    pub const OWNER: &str = "OWNER";
    pub const INTERCEPTION_MODE: &str = "INTERCEPTION_MODE";
    /// Of our own: the cluster by which the proxy reaches the CA that signs its key.
    pub const CA: &str = "OUTRIGGER_CA";
    /// Of our own: the file that holds the proxy's token, read whenever it is shown.
    pub const TOKEN_FILE: &str = "OUTRIGGER_TOKEN_FILE";
    /// Of our own: the same for a CA that is not the management server.
    pub const CA_TOKEN_FILE: &str = "OUTRIGGER_CA_TOKEN_FILE";
    /// Of our own: the SPIFFE id that the CA is asked for. CAs that know the caller's identity themselves may do without.
    pub const CA_IDENTITY: &str = "OUTRIGGER_CA_IDENTITY";
    /// `grpc` for a proxyless client; absent for a proxy.
    pub const GENERATOR: &str = "GENERATOR";
    /// The value of [`GENERATOR`] for gRPC proxyless clients.
    pub const GENERATOR_GRPC: &str = "grpc";
}

/// `sidecar~IP~NAME.NAMESPACE~NAMESPACE.svc.CLUSTERDOMAIN`
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeId {
    /// What kind of proxy: `sidecar` for ours; Istio has `router`, `waypoint`, `ztunnel` too.
    pub kind: String,
    pub ip: IpAddr,
    pub name: String,
    pub namespace: String,
    /// The cluster's DNS domain, `cluster.local` by default.
    pub cluster_domain: String,
}

impl NodeId {
    /// The id of a sidecar.
    pub fn sidecar(
        ip: IpAddr,
        name: impl Into<String>,
        namespace: impl Into<String>,
        cluster_domain: impl Into<String>,
    ) -> Self {
        Self {
            kind: "sidecar".to_owned(),
            ip,
            name: name.into(),
            namespace: namespace.into(),
            cluster_domain: cluster_domain.into(),
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, ip, name, namespace, cluster_domain } = self;
        write!(f, "{kind}~{ip}~{name}.{namespace}~{namespace}.svc.{cluster_domain}")
    }
}

/// Why a text is no node id of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNodeId {
    #[error("node id {0:?} is not of the form sidecar~IP~NAME.NAMESPACE~NAMESPACE.svc.CLUSTERDOMAIN")]
    Shape(String),
    #[error("node id {0:?} has {1:?} where an IP address is expected")]
    Ip(String, String),
    #[error("node id {0:?} names the namespace {1:?} in its name and {2:?} in its domain")]
    Namespace(String, String, String),
}

impl FromStr for NodeId {
    type Err = InvalidNodeId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let shape = || InvalidNodeId::Shape(text.to_owned());
        let parts: Vec<&str> = text.split('~').collect();
        let [kind, ip, full_name, domain] = parts.as_slice() else { return Err(shape()) };
        let address = ip.parse().map_err(|_| InvalidNodeId::Ip(text.to_owned(), (*ip).to_owned()))?;
        // A pod's name may hold dots, a namespace may not.
        let (name, namespace) = full_name.rsplit_once('.').ok_or_else(shape)?;
        let (domain_namespace, cluster_domain) = domain.split_once(".svc.").ok_or_else(shape)?;
        if kind.is_empty() || name.is_empty() || namespace.is_empty() || cluster_domain.is_empty() {
            return Err(shape());
        }
        if namespace != domain_namespace {
            return Err(InvalidNodeId::Namespace(text.to_owned(), namespace.to_owned(), domain_namespace.to_owned()));
        }
        Ok(Self {
            kind: (*kind).to_owned(),
            ip: address,
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            cluster_domain: cluster_domain.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_and_format() {
        let id = NodeId::sidecar([127, 0, 10, 11].into(), "web.1", "shop", "cluster.local");
        assert_eq!(id.to_string(), "sidecar~127.0.10.11~web.1.shop~shop.svc.cluster.local");
        assert_eq!(id.to_string().parse(), Ok(id));
        let six: NodeId = "sidecar~fd00::1~a.b~b.svc.x".parse().unwrap();
        assert!(six.ip.is_ipv6());
    }

    #[test]
    fn refuses_other_shapes() {
        for bad in [
            "",
            "test-id",
            "sidecar~x~a.b~b.svc.c",
            "sidecar~1.2.3.4~ab~b.svc.c",
            "sidecar~1.2.3.4~a.b~c.svc.d",
            "sidecar~1.2.3.4~a.b~b.svc.",
            "~1.2.3.4~a.b~b.svc.c",
            "sidecar~1.2.3.4~a.b~b.svc.c~d",
        ] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
    }
}
