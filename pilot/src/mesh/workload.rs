//! What runs: Workload objects, and pods with a sidecar.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use api::core::{Pod, Transport};
use api::workload::Capture;
use api::{FieldPath, Key, Kind, ObjectRef, Objects, Problem, Reason};
use injector::ports::Inbound;

use super::{Protocol, service};

/// The annotation that the injector leaves on a pod that it gave a sidecar.
const INJECTED: &str = "outrigger.dev/status";

/// A process or pod with a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Namespace and name.
    pub key: Key,
    /// What it is.
    pub kind: WorkloadKind,
    /// Where peers connect.
    pub address: IpAddr,
    /// Its other addresses: of a pod, that of the other family.
    pub more_addresses: Vec<IpAddr>,
    /// Who it is.
    pub account: Key,
    /// What selectors match.
    pub labels: BTreeMap<String, String>,
    /// What it serves.
    pub ports: Vec<WorkloadPort>,
    /// How its traffic comes to its sidecar.
    pub capture: Capture,
    /// Which of its ports its sidecar answers at; the others are called in plaintext.
    pub inbound: Inbound,
    /// How it reaches out, in explicit mode.
    pub outbound: Option<Outbound>,
    /// Its name in metrics and traces: its own, or that of a pod's controller.
    pub display_name: String,
    /// Whether calls may go there.
    pub ready: bool,
}

impl Workload {
    /// All its addresses, that where peers connect first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        std::iter::once(self.address).chain(self.more_addresses.iter().copied())
    }
}

/// What a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// A Workload object: a process outside Kubernetes.
    Process,
    /// A pod.
    Pod,
}

/// A port that a workload serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadPort {
    /// May be empty.
    pub name: String,
    /// Where peers connect.
    pub port: u16,
    /// Where the process itself listens.
    pub app: SocketAddr,
    /// By the port's own name; a Service may say more.
    pub protocol: Protocol,
}

/// How a workload reaches out, in explicit mode.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outbound {
    /// Where it sends HTTP.
    pub http: SocketAddr,
    /// An address for each TCP service.
    pub tcp: Vec<TcpOutbound>,
}

/// An address that stands for a TCP service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpOutbound {
    /// The Service.
    pub service: Key,
    /// Its port.
    pub port: u16,
    /// Where the sidecar listens for it.
    pub bind: SocketAddr,
}

pub(super) fn build(objects: &Objects, cluster_domain: &str) -> (BTreeMap<Key, Arc<Workload>>, Vec<Problem>) {
    let mut workloads = BTreeMap::new();
    let mut problems = Vec::new();
    let mut taken: BTreeMap<SocketAddr, ObjectRef> = BTreeMap::new();
    for (key, stored) in &objects.workloads {
        let object = ObjectRef::new(Kind::Workload, key);
        let Some(workload) = process(key, &stored.object, cluster_domain) else { continue };
        check_addresses(&workload, &object, &mut taken, &mut problems);
        check_outbound(&workload, &object, objects, &mut problems);
        workloads.insert(key.clone(), Arc::new(workload));
    }
    for (key, stored) in &objects.pods {
        if let Some(workload) = pod(key, &stored.object) {
            workloads.entry(key.clone()).or_insert_with(|| Arc::new(workload));
        }
    }
    (workloads, problems)
}

fn process(key: &Key, written: &api::Workload, cluster_domain: &str) -> Option<Workload> {
    let spec = &written.spec;
    let port = |p: &api::workload::WorkloadPort| WorkloadPort {
        name: p.name.clone(),
        port: p.port.get(),
        app: app(spec, p),
        protocol: Protocol::of(None, &p.name),
    };
    let tcp = |bind: &api::workload::TcpBind| {
        // What names no service at all is told as a missing one, under the name as it is written.
        let service = service::named(&bind.service, &key.namespace, cluster_domain);
        let service = service.unwrap_or_else(|| Key::new(key.namespace.clone(), bind.service.clone()));
        TcpOutbound { service, port: bind.port.get(), bind: bind.bind }
    };
    let outbound = spec.outbound_http().filter(|_| spec.capture == Capture::Explicit);
    Some(Workload {
        key: key.clone(),
        kind: WorkloadKind::Process,
        address: spec.address?,
        more_addresses: Vec::new(),
        account: Key::new(key.namespace.clone(), spec.service_account()),
        labels: written.metadata.labels.clone(),
        ports: spec.ports.iter().map(port).collect(),
        capture: spec.capture,
        inbound: Inbound::default(),
        outbound: outbound.map(|http| Outbound { http, tcp: spec.outbound.tcp.iter().map(tcp).collect() }),
        display_name: key.name.clone(),
        ready: true,
    })
}

/// Where the process itself listens. A captured one listens where its callers connect.
fn app(spec: &api::workload::WorkloadSpec, port: &api::workload::WorkloadPort) -> SocketAddr {
    match spec.address.filter(|_| spec.capture != Capture::Explicit) {
        Some(address) => SocketAddr::new(address, port.app_port.unwrap_or(port.port).get()),
        None => port.app(),
    }
}

/// Two workloads cannot listen at one address; both stay, for which of them can is decided where they run.
fn check_addresses(
    workload: &Workload,
    object: &ObjectRef,
    taken: &mut BTreeMap<SocketAddr, ObjectRef>,
    problems: &mut Vec<Problem>,
) {
    if workload.capture != Capture::Explicit {
        return;
    }
    let mut claim = |address: SocketAddr, field: FieldPath| match taken.get(&address) {
        Some(other) => {
            let message = format!("{address} is {other}'s already");
            problems.push(Problem::new(Reason::Conflict, object.clone(), message).at(field));
        }
        None => drop(taken.insert(address, object.clone())),
    };
    for (n, port) in workload.ports.iter().enumerate() {
        claim(SocketAddr::new(workload.address, port.port), FieldPath::spec().key("ports").index(n).key("port"));
    }
    if let Some(outbound) = &workload.outbound {
        let field = || FieldPath::spec().key("outbound");
        claim(outbound.http, field().key("http"));
        for (n, tcp) in outbound.tcp.iter().enumerate() {
            claim(tcp.bind, field().key("tcp").index(n).key("bind"));
        }
    }
}

fn check_outbound(workload: &Workload, object: &ObjectRef, objects: &Objects, problems: &mut Vec<Problem>) {
    for (n, tcp) in workload.outbound.iter().flat_map(|outbound| &outbound.tcp).enumerate() {
        let field = || FieldPath::spec().key("outbound").key("tcp").index(n);
        let Some(service) = objects.services.get(&tcp.service) else {
            let message = format!("service `{}` does not exist: connections to {} are closed", tcp.service, tcp.bind);
            problems.push(Problem::new(Reason::MissingReference, object.clone(), message).at(field().key("service")));
            continue;
        };
        if !service.spec.ports.iter().any(|port| port.port.get() == tcp.port) {
            let message =
                format!("service `{}` has no port {}: connections to {} are closed", tcp.service, tcp.port, tcp.bind);
            problems.push(Problem::new(Reason::MissingReference, object.clone(), message).at(field().key("port")));
        }
    }
}

/// A pod that has a sidecar and an address. Pods on the host's network never have one.
fn pod(key: &Key, written: &Pod) -> Option<Workload> {
    let sidecar = written.metadata.annotations.contains_key(INJECTED) && !written.spec.host_network;
    let address = written.status.pod_ip.filter(|_| sidecar)?;
    let ended = matches!(written.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let containers = written.spec.containers.iter().flat_map(|container| &container.ports);
    let port = |p: &api::core::ContainerPort| WorkloadPort {
        name: p.name.clone(),
        port: p.container_port.get(),
        app: SocketAddr::new(address, p.container_port.get()),
        protocol: Protocol::of(None, &p.name),
    };
    let account = written.spec.service_account_name.as_deref().unwrap_or("default");
    (!ended).then(|| Workload {
        key: key.clone(),
        kind: WorkloadKind::Pod,
        address,
        more_addresses: written.status.pod_ips.iter().map(|pod| pod.ip).filter(|ip| *ip != address).collect(),
        account: Key::new(key.namespace.clone(), account),
        labels: written.metadata.labels.clone(),
        ports: containers.filter(|p| p.protocol == Transport::Tcp).map(port).collect(),
        capture: Capture::Iptables,
        inbound: Inbound::of(&written.metadata.annotations),
        outbound: None,
        display_name: controller(written).unwrap_or_else(|| key.name.clone()),
        ready: is_ready(written),
    })
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    pod.status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The Deployment, StatefulSet or other controller of a pod. A Deployment's ReplicaSet is its name and the pod template's
/// hash.
fn controller(pod: &Pod) -> Option<String> {
    let owner = pod.metadata.owner_references.iter().find(|owner| owner.controller)?;
    let hash = pod.metadata.labels.get("pod-template-hash").filter(|_| owner.kind == "ReplicaSet");
    let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash.as_str())?.strip_suffix('-'));
    Some(deployment.unwrap_or(&owner.name).to_owned())
}
