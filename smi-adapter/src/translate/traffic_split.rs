//! `TrafficSplit` → routing of its root service's ports.

use std::collections::{BTreeMap, BTreeSet};

use api::core::{Service, Transport};
use api::mesh_config::PathRegex;
use api::routing::{Backend, Otherwise, PortRouting, RequestMatch, RouteRule};
use api::smi::TrafficSplit;
use api::{FieldPath, Key, Kind, ObjectRef, Objects, Problem, Reason};

use super::route_group::group_matches;

pub(super) fn translate(objects: &Objects, path_regex: PathRegex) -> (Vec<PortRouting>, Vec<Problem>) {
    let mut routings = Vec::new();
    let mut problems = Vec::new();
    let mut holds: BTreeMap<Key, ObjectRef> = BTreeMap::new();
    let mut splits: Vec<(&Key, &TrafficSplit)> =
        objects.traffic_splits.iter().map(|(key, split)| (key, split.object.as_ref())).collect();
    splits.sort_by(|(_, a), (_, b)| a.metadata.age(&b.metadata));
    for (key, split) in splits {
        let mut one = One { objects, split, object: ObjectRef::new(Kind::TrafficSplit, key), problems: Vec::new() };
        if let Some(root) = one.root() {
            match holds.get(&root) {
                Some(older) => one.conflict(&root, older),
                None => {
                    holds.insert(root.clone(), one.object.clone());
                    routings.extend(one.routings(&root, path_regex));
                }
            }
        }
        problems.extend(one.problems);
    }
    (routings, problems)
}

/// The translation of one split.
struct One<'a> {
    objects: &'a Objects,
    split: &'a TrafficSplit,
    object: ObjectRef,
    problems: Vec<Problem>,
}

/// A backend that exists, with its place in the split.
struct Share<'a> {
    key: Key,
    ports: &'a BTreeSet<u16>,
    weight: u64,
}

impl One<'_> {
    fn report(&mut self, reason: Reason, field: FieldPath, message: String) {
        self.problems.push(Problem::new(reason, self.object.clone(), message).at(field));
    }

    fn report_with_help(&mut self, reason: Reason, field: FieldPath, message: String, help: impl Into<String>) {
        self.problems.push(Problem::new(reason, self.object.clone(), message).at(field).help(help));
    }

    /// The service of the split's namespace that `name` means: its short name, or with namespace, `svc` and domain.
    fn service(&mut self, name: &str, field: FieldPath) -> Option<Key> {
        let namespace = self.object.namespace.clone();
        let mut parts = name.split('.');
        let short = parts.next().unwrap_or_default();
        let own = parts.next().is_none_or(|ns| ns == namespace) && parts.next().is_none_or(|svc| svc == "svc");
        if !own || short.is_empty() {
            let message = format!("`{name}` is no service of namespace `{namespace}`: a split stays within its own");
            self.report(Reason::MissingReference, field, message);
            return None;
        }
        Some(Key::new(namespace, short))
    }

    fn root(&mut self) -> Option<Key> {
        let field = FieldPath::spec().key("service");
        let root = self.service(&self.split.spec.service.clone(), field.clone())?;
        if !self.objects.services.contains_key(&root) {
            let message = format!("service `{}` does not exist in namespace `{}`", root.name, root.namespace);
            self.report(Reason::MissingReference, field, message);
            return None;
        }
        Some(root)
    }

    fn conflict(&mut self, root: &Key, older: &ObjectRef) {
        let message =
            format!("service `{}` is split by the older {older} already: this split has no effect", root.name);
        self.report_with_help(
            Reason::Conflict,
            FieldPath::spec().key("service"),
            message,
            "keep one split for each root service",
        );
    }

    fn routings(&mut self, root: &Key, path_regex: PathRegex) -> Vec<PortRouting> {
        let ports = self.objects.services.get(root).map(|service| tcp_ports(service)).unwrap_or_default();
        let known: Vec<Option<BTreeSet<u16>>> = self.backend_ports();
        let shares = self.shares(root, &ports, &known);
        let matches = self.matches(path_regex);
        let mut routings = Vec::new();
        let mut unusable = Vec::new();
        for port in ports {
            let at_port: Vec<&Share<'_>> = shares.iter().filter(|share| share.ports.contains(&port)).collect();
            let backends = weighed(&at_port, port);
            if backends.is_empty() {
                unusable.push(port);
                continue;
            }
            let rule = RouteRule {
                name: self.object.name.clone(),
                matches: matches.clone(),
                backends,
                ..RouteRule::default()
            };
            routings.push(PortRouting {
                source: self.object.clone(),
                service: root.clone(),
                port,
                callers: None,
                rules: vec![rule],
                otherwise: Otherwise::OwnEndpoints,
            });
        }
        self.no_usable_backend(root, &unusable, routings.is_empty());
        routings
    }

    fn no_usable_backend(&mut self, root: &Key, unusable: &[u16], nowhere: bool) {
        if unusable.is_empty() {
            return;
        }
        let all_zero = self.split.spec.backends.iter().all(|backend| backend.weight == 0);
        let why = if all_zero { "every weight is 0" } else { "no backend with weight has that port" };
        let list = unusable.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let at = if nowhere && all_zero { String::new() } else { format!(" at port {list}") };
        let message = format!("no usable backend{at}, {why}: `{}` serves with its own endpoints", root.name);
        self.report(Reason::NoUsableBackend, FieldPath::spec().key("backends"), message);
    }

    /// For each backend, the ports of its service; `None` when there is no such service.
    fn backend_ports(&mut self) -> Vec<Option<BTreeSet<u16>>> {
        let split = self.split;
        let backends = split.spec.backends.iter().enumerate();
        backends
            .map(|(n, backend)| {
                let field = FieldPath::spec().key("backends").index(n).key("service");
                let key = self.service(&backend.service, field.clone())?;
                let Some(service) = self.objects.services.get(&key) else {
                    // Without weight this is how a rollout begins.
                    if backend.weight > 0 {
                        let message = format!("service `{}` does not exist: it gets no share", key.name);
                        let help = "create the service first, or give it weight 0 until it is there";
                        self.report_with_help(Reason::MissingReference, field, message, help);
                    }
                    return None;
                };
                Some(tcp_ports(service))
            })
            .collect()
    }

    fn shares<'a>(&mut self, root: &Key, ports: &BTreeSet<u16>, known: &'a [Option<BTreeSet<u16>>]) -> Vec<Share<'a>> {
        let split = self.split;
        let mut shares = Vec::new();
        for (n, (backend, has)) in split.spec.backends.iter().zip(known).enumerate() {
            let Some(has) = has else { continue };
            let field = FieldPath::spec().key("backends").index(n).key("service");
            let name = backend.service.split('.').next().unwrap_or_default();
            let key = Key::new(root.namespace.clone(), name);
            if key == *root {
                let message = format!("root service `{name}` is its own backend: its own endpoints get the share");
                self.report(Reason::SelfReference, field.clone(), message);
            }
            let lacks: Vec<String> = ports.difference(has).map(u16::to_string).collect();
            if !lacks.is_empty() {
                let message = format!(
                    "backend `{name}` has no port {} as root service `{}` has: it gets no share there",
                    lacks.join(", "),
                    root.name
                );
                let help = format!("give `{name}` the same port numbers as `{}`; its targetPort may differ", root.name);
                self.report_with_help(Reason::PortMismatch, field, message, help);
            }
            shares.push(Share { key, ports: has, weight: backend.weight });
        }
        shares
    }

    /// Every request when the split names no groups; only what the groups accept when it does.
    fn matches(&mut self, path_regex: PathRegex) -> Vec<RequestMatch> {
        let groups = &self.split.spec.matches;
        if groups.is_empty() {
            return vec![RequestMatch::default()];
        }
        let field = FieldPath::spec().key("matches");
        let (matches, problems) = group_matches(groups, &self.object, &field, self.objects, path_regex);
        self.problems.extend(problems);
        matches
    }
}

fn tcp_ports(service: &Service) -> BTreeSet<u16> {
    service.spec.ports.iter().filter(|port| port.protocol == Transport::Tcp).map(|port| port.port.get()).collect()
}

/// The backends with weight, each service once, with weights whose sum fits `u32`.
fn weighed(shares: &[&Share<'_>], port: u16) -> Vec<Backend> {
    let mut weights: Vec<(&Key, u128)> = Vec::new();
    for share in shares.iter().filter(|share| share.weight > 0) {
        match weights.iter_mut().find(|(key, _)| **key == share.key) {
            Some((_, weight)) => *weight += u128::from(share.weight),
            None => weights.push((&share.key, u128::from(share.weight))),
        }
    }
    let sum: u128 = weights.iter().map(|(_, weight)| weight).sum();
    // A share too small to be kept is still more than none.
    let limit = u128::from(u32::MAX) - weights.len() as u128;
    let fit = |weight: u128| if sum > limit { (weight * limit / sum).max(1) } else { weight };
    let backend = |(key, weight): (&Key, u128)| Backend {
        service: key.clone(),
        port,
        weight: u32::try_from(fit(weight)).unwrap_or(u32::MAX),
        actions: api::routing::Actions::default(),
    };
    weights.into_iter().map(backend).collect()
}
