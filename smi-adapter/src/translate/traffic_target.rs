//! `TrafficTarget` → grants. Whatever cannot be understood allows nothing.

use std::collections::BTreeSet;

use api::access::{Grant, Ports, Requests};
use api::mesh_config::PathRegex;
use api::routing::RequestMatch;
use api::smi::access::Rule;
use api::smi::{RouteKind, TrafficTarget};
use api::{FieldPath, Key, Kind, ObjectRef, Objects, Problem, Reason};

use super::route_group;

pub(super) fn translate(objects: &Objects, path_regex: PathRegex) -> (Vec<Grant>, Vec<Problem>) {
    let mut grants = Vec::new();
    let mut problems = Vec::new();
    for (key, target) in &objects.traffic_targets {
        let object = ObjectRef::new(Kind::TrafficTarget, key);
        if let Some(foreign) = foreign(target, &object) {
            problems.push(foreign);
            continue;
        }
        let mut rules =
            Rules { objects, object: &object, path_regex, ports: None, requests: None, problems: Vec::new() };
        for (n, rule) in target.spec.rules.iter().enumerate() {
            rules.add(rule, FieldPath::spec().key("rules").index(n));
        }
        let callers = target.spec.sources.iter();
        let callers =
            callers.map(|s| Key::new(s.namespace.as_ref().unwrap_or(&object.namespace).clone(), s.name.clone()));
        let narrow = target.spec.destination.port.map(api::scalar::Port::get);
        let (ports, requests) = allowed(rules.ports, rules.requests, narrow);
        let destination = Key::new(object.namespace.clone(), target.spec.destination.name.clone());
        problems.extend(rules.problems);
        let grant = Grant { source: object.clone(), destination, callers: callers.collect(), ports, requests };
        problems.extend(nothing(target, &object));
        grants.push(grant);
    }
    (grants, problems)
}

/// A target that speaks for a service account of another namespace, which only that namespace's owners may.
fn foreign(target: &TrafficTarget, object: &ObjectRef) -> Option<Problem> {
    let named = target.spec.destination.namespace.as_ref()?;
    if *named == object.namespace {
        return None;
    }
    let message = format!(
        "a target speaks only for service accounts of its own namespace `{}`, not of `{named}`: it allows nothing",
        object.namespace
    );
    let field = FieldPath::spec().key("destination").key("namespace");
    let help = format!("move the target to namespace `{named}`");
    Some(Problem::new(Reason::ForeignDestination, object.clone(), message).at(field).help(help))
}

/// A target that can allow nothing because a part of it is empty.
fn nothing(target: &TrafficTarget, object: &ObjectRef) -> Option<Problem> {
    let (field, what) = match (target.spec.sources.is_empty(), target.spec.rules.is_empty()) {
        (true, _) => ("sources", "names no source"),
        (_, true) => ("rules", "has no rule"),
        _ => return None,
    };
    let message = format!("the target {what}: it allows nothing");
    Some(Problem::new(Reason::AllowsNothing, object.clone(), message).at(FieldPath::spec().key(field)))
}

/// A target's rules, gathered by kind. `None`: no rule of that kind is there.
struct Rules<'a> {
    objects: &'a Objects,
    object: &'a ObjectRef,
    path_regex: PathRegex,
    ports: Option<Ports>,
    requests: Option<Vec<RequestMatch>>,
    problems: Vec<Problem>,
}

impl Rules<'_> {
    fn add(&mut self, rule: &Rule, field: FieldPath) {
        let key = Key::new(self.object.namespace.clone(), rule.name.clone());
        match rule.kind {
            RouteKind::HttpRouteGroup => self.requests(rule, &key, &field),
            RouteKind::TcpRoute => self.ports(rule, &key, &field),
            RouteKind::UdpRoute => {
                let message = format!("UDPRoute `{}` allows nothing: UDP is not carried by the mesh", rule.name);
                self.problems.push(Problem::new(Reason::Unenforced, self.object.clone(), message).at(field));
            }
        }
    }

    fn missing(&mut self, rule: &Rule, field: &FieldPath) {
        let field = field.clone().key("name");
        self.problems.push(route_group::missing(rule.kind, &rule.name, self.object, field));
    }

    fn ports(&mut self, rule: &Rule, key: &Key, field: &FieldPath) {
        let before = self.ports.take().unwrap_or(Ports::Only(BTreeSet::new()));
        let Some(route) = self.objects.tcp_routes.get(key) else {
            self.ports = Some(before);
            return self.missing(rule, field);
        };
        let named = &route.spec.matches.ports;
        self.ports = Some(match before {
            Ports::Only(mut ports) if !named.is_empty() => {
                ports.extend(named.iter().map(|port| port.get()));
                Ports::Only(ports)
            }
            _ => Ports::All,
        });
    }

    fn requests(&mut self, rule: &Rule, key: &Key, field: &FieldPath) {
        self.requests.get_or_insert_default();
        let objects = self.objects;
        let Some(group) = objects.http_route_groups.get(key) else { return self.missing(rule, field) };
        if rule.matches.is_empty() {
            self.requests.get_or_insert_default().extend(route_group::all(group, self.path_regex));
        }
        for (n, name) in rule.matches.iter().enumerate() {
            match route_group::named(group, name, self.path_regex) {
                Some(matches) => self.requests.get_or_insert_default().extend(matches),
                None => {
                    let message = format!("HTTPRouteGroup `{}` has no match named `{name}`", rule.name);
                    let field = field.clone().key("matches").index(n);
                    self.problems.push(Problem::new(Reason::MissingReference, self.object.clone(), message).at(field));
                }
            }
        }
    }
}

/// What ports and requests come to: both kinds of rule are ANDed, no rule at all allows nothing, and `narrow` is the
/// destination's own port.
fn allowed(ports: Option<Ports>, requests: Option<Vec<RequestMatch>>, narrow: Option<u16>) -> (Ports, Requests) {
    let none = || Ports::Only(BTreeSet::new());
    let (ports, requests) = match (ports, requests) {
        (None, None) => (none(), Requests::Matching(Vec::new())),
        (Some(ports), None) => (ports, Requests::Any),
        (ports, Some(requests)) => (ports.unwrap_or(Ports::All), Requests::Matching(requests)),
    };
    let ports = match narrow {
        Some(port) if ports.contains(port) => Ports::Only(BTreeSet::from([port])),
        Some(_) => none(),
        None => ports,
    };
    (ports, requests)
}
