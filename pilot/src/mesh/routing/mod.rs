//! What becomes of calls to Services: SMI's splits and Gateway API's routes, brought together. Pure.
//!
//! Source: GEP-1426 (a Service as a route's parent), GEP-1294; the order among rules is that of Gateway API's `HTTPRouteRule`.

mod actions;
mod attach;
mod backends;
mod grpc_route;
mod http_route;
mod order;
mod tcp_route;

use std::collections::{BTreeMap, BTreeSet};

use api::mesh_config::PathRegex;
use api::routing::PortRouting;
use api::{FieldPath, Key, Kind, ObjectMeta, ObjectRef, Objects, Problem, Reason};

/// All routings, at most one for each Service, port and circle of callers, and what is wrong with the objects behind them.
#[must_use]
pub fn build(objects: &Objects, path_regex: PathRegex) -> (Vec<PortRouting>, Vec<Problem>) {
    let (splits, mut problems) = smi_adapter::translate::splits(objects, path_regex);
    let (routes, more) = attach::routings(objects);
    problems.extend(more);
    let (routings, more) = together(splits, routes, objects);
    problems.extend(more);
    (routings, problems)
}

/// A split and a route for all callers of one port: the older holds, the other is told.
fn together(splits: Vec<PortRouting>, routes: Vec<PortRouting>, objects: &Objects) -> (Vec<PortRouting>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut lost: BTreeSet<usize> = BTreeSet::new();
    let by_port: BTreeMap<(Key, u16), usize> =
        splits.iter().enumerate().map(|(n, split)| ((split.service.clone(), split.port), n)).collect();
    let mut kept = Vec::new();
    for route in routes {
        let rival = by_port.get(&(route.service.clone(), route.port)).filter(|_| route.callers.is_none());
        let Some((n, split)) = rival.and_then(|n| Some((*n, splits.get(*n)?))) else {
            kept.push(route);
            continue;
        };
        if age(&split.source, objects).cmp(&age(&route.source, objects)).is_le() {
            problems.push(conflict(&route.source, &split.source, &route.service));
        } else {
            problems.push(conflict(&split.source, &route.source, &route.service));
            lost.insert(n);
            kept.push(route);
        }
    }
    let splits = splits.into_iter().enumerate().filter(|(n, _)| !lost.contains(n)).map(|(_, split)| split);
    let mut all: Vec<PortRouting> = splits.chain(kept).collect();
    all.sort_by(|a, b| (&a.service, a.port, &a.callers).cmp(&(&b.service, b.port, &b.callers)));
    problems.dedup();
    (all, problems)
}

/// What decides which of two objects is older.
fn age(object: &ObjectRef, objects: &Objects) -> impl Ord + use<> {
    let key = Key::new(object.namespace.clone(), object.name.clone());
    let found = Kind::named(&object.kind).find_map(|kind| objects.get(kind, &key));
    let created = found.and_then(|object| object.metadata().creation_timestamp);
    (created, key, object.kind.clone())
}

fn conflict(loser: &ObjectRef, winner: &ObjectRef, service: &Key) -> Problem {
    let message = format!("service `{}` is routed by {winner} already: this has no effect there", service.name);
    Problem::new(Reason::Conflict, loser.clone(), message).at(FieldPath::spec())
}

/// Sorts what is older first.
fn oldest_first<T>(routes: &mut [T], metadata: impl Fn(&T) -> &ObjectMeta) {
    routes.sort_by(|a, b| metadata(a).age(metadata(b)));
}
