//! Where a Service's ports are served: the Workloads and pods that its selector selects, and what EndpointSlices say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::core::{AddressType, Endpoint as Sliced, EndpointSlice, Pod, Transport};
use api::scalar::PortRef;
use api::workload::Capture;
use api::{FieldPath, Key, Kind, ObjectRef, Objects, Problem, Reason};

use super::workload::is_ready;
use super::{PortKey, Service, ServicePort, Workload};

/// One address that serves a Service's port. Ordered by address and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Where it is called.
    pub address: IpAddr,
    /// Its port there.
    pub port: u16,
    /// The workload whose sidecar answers; absent: none does, and it is called in plaintext.
    pub workload: Option<Key>,
    /// Its zone, where it is known.
    pub zone: Option<String>,
}

pub(super) fn build(
    objects: &Objects,
    services: &BTreeMap<Key, Arc<Service>>,
    workloads: &BTreeMap<Key, Arc<Workload>>,
) -> (BTreeMap<PortKey, Arc<Vec<Endpoint>>>, Vec<Problem>) {
    let known = Known {
        objects,
        by_address: workloads
            .values()
            .flat_map(|workload| workload.addresses().map(move |address| (address, workload.as_ref())))
            .collect(),
        by_namespace: group(workloads.values().map(Arc::as_ref), |w| &w.key.namespace),
        pods: group(objects.pods.values().map(|pod| pod.object.as_ref()), |p| &p.metadata.namespace),
        slices: slices(objects),
    };
    let mut endpoints = BTreeMap::new();
    for (key, service) in services {
        let selector = objects.services.get(key).map(|stored| &stored.spec);
        let Some(spec) = selector else { continue };
        for port in service.ports.values() {
            let mut found = BTreeSet::new();
            let slices = known.slices.get(key).map_or(&[][..], Vec::as_slice);
            known.sliced(slices, port, spec.publish_not_ready_addresses, &mut found);
            if !spec.selector.is_empty() {
                known.selected(
                    key,
                    &spec.selector,
                    port,
                    spec.publish_not_ready_addresses,
                    slices.is_empty(),
                    &mut found,
                );
            }
            endpoints.insert((key.clone(), port.port), Arc::new(found.into_iter().collect()));
        }
    }
    (endpoints, lost_slices(objects))
}

fn group<'a, T>(items: impl Iterator<Item = &'a T>, by: impl Fn(&'a T) -> &'a String) -> BTreeMap<&'a str, Vec<&'a T>> {
    let mut groups: BTreeMap<&str, Vec<&T>> = BTreeMap::new();
    for item in items {
        groups.entry(by(item)).or_default().push(item);
    }
    groups
}

fn slices(objects: &Objects) -> BTreeMap<Key, Vec<&EndpointSlice>> {
    let mut by_service: BTreeMap<Key, Vec<&EndpointSlice>> = BTreeMap::new();
    for (key, slice) in &objects.endpoint_slices {
        if let Some(service) = slice.service() {
            by_service.entry(Key::new(key.namespace.clone(), service)).or_default().push(&slice.object);
        }
    }
    by_service
}

/// A slice written by hand that belongs to no Service. In a cluster such slices come and go, and are nobody's mistake.
fn lost_slices(objects: &Objects) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (key, slice) in objects.endpoint_slices.iter().filter(|(_, slice)| slice.origin.file().is_some()) {
        let object = ObjectRef::new(Kind::EndpointSlice, key);
        let labels = FieldPath::root().key("metadata").key("labels");
        match slice.service() {
            None => {
                let message =
                    format!("label `{}` is missing: it says whose endpoints these are", EndpointSlice::SERVICE_LABEL);
                problems.push(Problem::new(Reason::MissingReference, object, message).at(labels));
            }
            Some(name) if !objects.services.contains_key(&Key::new(key.namespace.clone(), name)) => {
                let message = format!("service `{name}` does not exist in namespace `{}`", key.namespace);
                let field = labels.key(EndpointSlice::SERVICE_LABEL);
                problems.push(Problem::new(Reason::MissingReference, object, message).at(field));
            }
            Some(_) => {}
        }
    }
    problems
}

/// What is there to be selected.
struct Known<'a> {
    by_address: BTreeMap<IpAddr, &'a Workload>,
    by_namespace: BTreeMap<&'a str, Vec<&'a Workload>>,
    objects: &'a Objects,
    pods: BTreeMap<&'a str, Vec<&'a Pod>>,
    slices: BTreeMap<Key, Vec<&'a EndpointSlice>>,
}

impl Known<'_> {
    fn sliced(&self, slices: &[&EndpointSlice], port: &ServicePort, unready: bool, found: &mut BTreeSet<Endpoint>) {
        for slice in slices.iter().filter(|slice| slice.address_type != AddressType::Fqdn) {
            let named = slice.ports.iter().filter(|p| p.name == port.name && p.protocol == Transport::Tcp);
            for number in named.filter_map(|p| p.port) {
                for endpoint in slice.endpoints.iter().filter(|endpoint| unready || self.ready(slice, endpoint)) {
                    let Some(address) = endpoint.addresses.first().and_then(|ip| ip.parse().ok()) else { continue };
                    let workload = self.by_address.get(&address).and_then(|workload| answers(workload, number.get()));
                    found.insert(Endpoint { address, port: number.get(), workload, zone: endpoint.zone.clone() });
                }
            }
        }
    }

    /// A pod that is known says it itself: slices follow it, and not at once.
    fn ready(&self, slice: &EndpointSlice, endpoint: &Sliced) -> bool {
        let target = endpoint.target_ref.as_ref().filter(|target| target.kind == "Pod");
        let key = target.map(|target| Key::new(slice.metadata.namespace.clone(), target.name.clone()));
        match key.and_then(|key| self.objects.pods.get(&key)) {
            Some(pod) => pod.metadata.deletion_timestamp.is_none() && is_ready(pod),
            None => endpoint.conditions.is_ready(),
        }
    }

    /// Workloads always; pods only where no EndpointSlice has said it already.
    fn selected(
        &self,
        service: &Key,
        selector: &BTreeMap<String, String>,
        port: &ServicePort,
        unready: bool,
        pods: bool,
        found: &mut BTreeSet<Endpoint>,
    ) {
        let selects = |labels: &BTreeMap<String, String>| selector.iter().all(|(k, v)| labels.get(k) == Some(v));
        let namespace = service.namespace.as_str();
        for workload in self.by_namespace.get(namespace).into_iter().flatten().filter(|w| selects(&w.labels)) {
            let process = workload.kind == super::WorkloadKind::Process;
            if (!process && !pods) || !(workload.ready || unready) {
                continue;
            }
            if let Some(number) = target(workload, &port.target) {
                let (address, workload) = (workload.address, answers(workload, number));
                found.insert(Endpoint { address, port: number, workload, zone: None });
            }
        }
        let plain = self.pods.get(namespace).into_iter().flatten().filter(|pod| pods && selects(&pod.metadata.labels));
        for pod in plain.filter(|pod| unready || is_ready(pod)) {
            let Some(address) = pod.status.pod_ip.filter(|ip| !self.by_address.contains_key(ip)) else { continue };
            if let Some(number) = pod_target(pod, &port.target) {
                found.insert(Endpoint { address, port: number, workload: None, zone: None });
            }
        }
    }
}

/// The workload, if its sidecar answers at a port.
fn answers(workload: &Workload, port: u16) -> Option<Key> {
    workload.inbound.captures(port).then(|| workload.key.clone())
}

/// The port of a workload that a Service's `targetPort` means. In explicit mode its sidecar listens only at declared ports.
fn target(workload: &Workload, target: &PortRef) -> Option<u16> {
    match target {
        PortRef::Name(name) => workload.ports.iter().find(|port| port.name == *name).map(|port| port.port),
        PortRef::Number(number) if workload.capture == Capture::Explicit => {
            workload.ports.iter().find(|port| port.port == number.get()).map(|port| port.port)
        }
        PortRef::Number(number) => Some(number.get()),
    }
}

fn pod_target(pod: &Pod, target: &PortRef) -> Option<u16> {
    match target {
        PortRef::Number(number) => Some(number.get()),
        PortRef::Name(name) => {
            let mut ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
            ports.find(|port| port.name == *name).map(|port| port.container_port.get())
        }
    }
}
