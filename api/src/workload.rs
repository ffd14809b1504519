//! `Workload` (mesh.outrigger.dev/v1alpha1): a process outside Kubernetes. A Service's selector selects Workloads as it
//! selects Pods.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::ObjectMeta;
use crate::scalar::Port;

/// The outbound HTTP port unless `outbound.http` says otherwise.
pub const OUTBOUND_PORT: u16 = 15001;

/// A process outside Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its labels are what selectors match.
    pub metadata: ObjectMeta,
    /// Where it is.
    #[serde(default)]
    pub spec: WorkloadSpec,
}

/// The fields of a [`Workload`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkloadSpec {
    /// The IP address at which peers connect. Required unless the workload is captured as a pod is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Who it is; `default` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// What it serves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<WorkloadPort>,
    /// How traffic comes to the sidecar; `explicit` by default.
    pub capture: Capture,
    /// How the process reaches out, in explicit mode.
    pub outbound: Outbound,
}

impl WorkloadSpec {
    /// The service account, `default` when none is named.
    #[must_use]
    pub fn service_account(&self) -> &str {
        self.service_account.as_deref().unwrap_or("default")
    }

    /// Where the process sends its HTTP calls in explicit mode; `None` only without an address.
    #[must_use]
    pub fn outbound_http(&self) -> Option<SocketAddr> {
        self.outbound.http.or_else(|| self.address.map(|ip| SocketAddr::new(ip, OUTBOUND_PORT)))
    }
}

/// A port that a workload serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadPort {
    /// What a Service's `targetPort` may name. Its prefix up to the first `-` may name the protocol.
    #[serde(default)]
    pub name: String,
    /// Where peers connect.
    pub port: Port,
    /// The port at which the process itself listens; `port` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_port: Option<Port>,
    /// The IP address at which the process itself listens; 127.0.0.1 by default.
    #[serde(default = "loopback")]
    pub app_address: IpAddr,
}

impl WorkloadPort {
    /// Where the process itself listens.
    #[must_use]
    pub fn app(&self) -> SocketAddr {
        SocketAddr::new(self.app_address, self.app_port.unwrap_or(self.port).get())
    }
}

fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// How a workload's traffic comes to its sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// The sidecar listens on the workload's address and offers `outbound` addresses.
    #[default]
    Explicit,
    /// Redirected by iptables, as in a pod.
    Iptables,
    /// Redirected by eBPF.
    Ebpf,
}

/// How a process reaches out, in explicit mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outbound {
    /// HTTP, routed by Host or absolute-form target; `address:15001` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<SocketAddr>,
    /// An address for each TCP service that it calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<TcpBind>,
}

/// An address that stands for a TCP service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpBind {
    /// `SVC` of the own namespace, `SVC.NS`, `SVC.NS.svc` or the full name.
    pub service: String,
    /// The Service's port.
    pub port: Port,
    /// Where the sidecar listens for it.
    pub bind: SocketAddr,
}
