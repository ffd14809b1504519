//! Kubernetes' own kinds, as far as a mesh reads them. Fields that are not read here are tolerated.
//!
//! Source: Kubernetes `core/v1` and `discovery/v1`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::meta::ObjectMeta;
use crate::scalar::{Port, PortRef};

/// A named set of endpoints with its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Name, namespace, labels.
    pub metadata: ObjectMeta,
    /// Ports and selector.
    #[serde(default)]
    pub spec: ServiceSpec,
}

/// Source: Kubernetes `ServiceSpec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// Labels that a Pod or Workload must all have to be selected; empty selects none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// The ports that callers name.
    pub ports: Vec<ServicePort>,
    /// The virtual address; `None` (the word) for a headless service, absent outside a cluster.
    #[serde(rename = "clusterIP", skip_serializing_if = "Option::is_none")]
    pub cluster_ip: Option<String>,
    /// All virtual addresses, one of each family.
    #[serde(rename = "clusterIPs", skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<String>,
    /// `ClusterIP` when absent.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// The DNS name of an `ExternalName` service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_name: Option<String>,
    /// Whether endpoints that are not ready are called too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub publish_not_ready_addresses: bool,
}

impl ServiceSpec {
    /// The virtual addresses, in the order they are given; none for headless services and outside a cluster.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let first = self.cluster_ip.as_ref().filter(|_| self.cluster_ips.is_empty());
        self.cluster_ips.iter().chain(first).filter_map(|ip| ip.parse().ok())
    }

    /// Whether it is headless: no virtual address, callers choose an endpoint by DNS.
    #[must_use]
    pub fn headless(&self) -> bool {
        self.cluster_ip.as_deref() == Some("None")
    }
}

/// Source: Kubernetes `ServicePort`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Empty only when the service has a single port. Its prefix up to the first `-` may name the protocol.
    #[serde(default)]
    pub name: String,
    /// The port that callers name.
    pub port: Port,
    /// The port of the selected Pod or Workload, by number or name; the same as `port` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<PortRef>,
    /// The transport; only TCP is meshed.
    #[serde(default)]
    pub protocol: Transport,
    /// The application protocol, before the name's prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// A transport protocol. Source: Kubernetes `Protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// The default.
    #[default]
    Tcp,
    /// Not meshed.
    Udp,
    /// Not meshed.
    Sctp,
}

/// Addresses of a Service. Source: Kubernetes `discovery/v1.EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// The label `kubernetes.io/service-name` says whose addresses these are.
    pub metadata: ObjectMeta,
    /// What `endpoints[].addresses` holds.
    pub address_type: AddressType,
    /// The endpoints.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// The ports that every endpoint here serves; matched to the Service's by name.
    #[serde(default)]
    pub ports: Vec<EndpointPort>,
}

impl EndpointSlice {
    /// The label that names the Service.
    pub const SERVICE_LABEL: &'static str = "kubernetes.io/service-name";

    /// The Service, in the slice's own namespace, whose endpoints these are.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.metadata.labels.get(Self::SERVICE_LABEL).map(String::as_str)
    }
}

/// Source: Kubernetes `AddressType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AddressType {
    /// IPv4 addresses.
    IPv4,
    /// IPv6 addresses.
    IPv6,
    /// DNS names, which are not meshed.
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// Source: Kubernetes `discovery/v1.Endpoint`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its addresses, all of the slice's type; the first is called.
    pub addresses: Vec<String>,
    /// Whether it may be called.
    #[serde(default)]
    pub conditions: EndpointConditions,
    /// The Pod behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Its zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
}

/// Source: Kubernetes `EndpointConditions`; unset means ready and serving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// `false`: left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// As `ready`, but true while a ready endpoint terminates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    /// Whether it is about to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating: Option<bool>,
}

impl EndpointConditions {
    /// Whether new calls may go there.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self.ready != Some(false)
    }
}

/// What an endpoint stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetRef {
    /// `Pod`.
    pub kind: String,
    /// The name.
    pub name: String,
    /// Empty for the slice's own.
    pub namespace: String,
}

/// Source: Kubernetes `discovery/v1.EndpointPort`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointPort {
    /// The Service port's name.
    pub name: String,
    /// Absent means all ports, which is not meshed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// Only TCP is meshed.
    pub protocol: Transport,
    /// As on the Service's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Labels, owner and the injector's annotation.
    pub metadata: ObjectMeta,
    /// What runs in it.
    #[serde(default)]
    pub spec: PodSpec,
    /// Where it runs.
    #[serde(default)]
    pub status: PodStatus,
}

/// Source: Kubernetes `PodSpec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// `default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// The node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Pods on the host's network are not meshed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,
    /// The containers, for named ports.
    pub containers: Vec<Container>,
    /// The init containers; the injected sidecar may be one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub init_containers: Vec<Container>,
}

/// Source: Kubernetes `Container`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// The container's name.
    pub name: String,
    /// The ports it declares.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ContainerPort>,
}

/// Source: Kubernetes `ContainerPort`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    /// What a Service's `targetPort` may name.
    #[serde(default)]
    pub name: String,
    /// The number.
    pub container_port: Port,
    /// Only TCP is meshed.
    #[serde(default)]
    pub protocol: Transport,
}

/// Source: Kubernetes `PodStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The pod's address.
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<IpAddr>,
    /// All its addresses.
    #[serde(rename = "podIPs", skip_serializing_if = "Vec::is_empty")]
    pub pod_ips: Vec<PodIp>,
    /// Among others, whether it is ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<PodCondition>,
}

/// Source: Kubernetes `PodIP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodIp {
    /// The address.
    pub ip: IpAddr,
}

/// Source: Kubernetes `PodCondition`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodCondition {
    /// `Ready`, …
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}

/// Who a workload is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAccount {
    /// Its name and namespace are the identity.
    pub metadata: ObjectMeta,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its labels turn injection on.
    pub metadata: ObjectMeta,
}
