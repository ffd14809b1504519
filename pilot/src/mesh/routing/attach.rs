//! Which routes speak of which ports of which Services, and which of them hold there.

use std::collections::BTreeMap;

use api::core::Transport;
use api::gateway::{GrpcRoute, HttpRoute, ParentRef, TcpRoute};
use api::routing::{Otherwise, PortRouting, RouteRule};
use api::{FieldPath, Key, Kind, ObjectRef, Objects, Problem, Reason};

use super::{grpc_route, http_route, oldest_first, order, tcp_route};

/// A port of a Service, and whose calls to it are meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    service: Key,
    port: u16,
    callers: Option<String>,
}

/// The kinds in the order in which they win at one port. Source: GEP-1426, "Multiple route types on one Service port".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Grpc,
    Http,
    Tcp,
}

/// The rules of one route, attached somewhere.
struct Attached {
    rank: Rank,
    source: ObjectRef,
    rules: Vec<RouteRule>,
}

#[derive(Default)]
struct Routes {
    places: BTreeMap<Place, Vec<Attached>>,
    problems: Vec<Problem>,
}

/// What the routes with a Service as parent mean.
pub(super) fn routings(objects: &Objects) -> (Vec<PortRouting>, Vec<Problem>) {
    let mut routes = Routes::default();
    let mut grpc: Vec<&GrpcRoute> = objects.grpc_routes.values().map(|r| r.object.as_ref()).collect();
    let mut http: Vec<&HttpRoute> = objects.http_routes.values().map(|r| r.object.as_ref()).collect();
    let mut tcp: Vec<&TcpRoute> = objects.gateway_tcp_routes.values().map(|r| r.object.as_ref()).collect();
    oldest_first(&mut grpc, |r| &r.metadata);
    oldest_first(&mut http, |r| &r.metadata);
    oldest_first(&mut tcp, |r| &r.metadata);
    for route in grpc {
        let source = ObjectRef::new(Kind::GrpcRoute, &route.metadata.key());
        routes.add(objects, Rank::Grpc, source, &route.spec.parent_refs, |source| {
            grpc_route::rules(route, source, objects)
        });
    }
    for route in http {
        let source = ObjectRef::new(Kind::HttpRoute, &route.metadata.key());
        routes.add(objects, Rank::Http, source, &route.spec.parent_refs, |source| {
            http_route::rules(route, source, objects)
        });
    }
    for route in tcp {
        let source = ObjectRef::new(Kind::GatewayTcpRoute, &route.metadata.key());
        routes.add(objects, Rank::Tcp, source, &route.spec.parent_refs, |source| {
            tcp_route::rules(route, source, objects)
        });
    }
    let mut routings = Vec::new();
    for (place, attached) in routes.places {
        routings.extend(decide(place, attached, &mut routes.problems));
    }
    (routings, routes.problems)
}

impl Routes {
    fn add(
        &mut self,
        objects: &Objects,
        rank: Rank,
        source: ObjectRef,
        parents: &[ParentRef],
        rules: impl FnOnce(&ObjectRef) -> (Vec<RouteRule>, Vec<Problem>),
    ) {
        let mut places: Vec<Place> = Vec::new();
        for (n, parent) in parents.iter().enumerate().filter(|(_, parent)| parent.is_service()) {
            match self::places(parent, &source, objects) {
                Ok(found) => places.extend(found),
                Err((field, message)) => {
                    let field = FieldPath::spec().key("parentRefs").index(n).key(field);
                    self.problems.push(Problem::new(Reason::MissingReference, source.clone(), message).at(field));
                }
            }
        }
        if places.is_empty() {
            return;
        }
        places.sort();
        places.dedup();
        let (rules, problems) = rules(&source);
        self.problems.extend(problems);
        for place in places {
            let attached = Attached { rank, source: source.clone(), rules: rules.clone() };
            self.places.entry(place).or_default().push(attached);
        }
    }
}

/// The ports that a parent reference means, or which field of it means nothing.
fn places(parent: &ParentRef, source: &ObjectRef, objects: &Objects) -> Result<Vec<Place>, (&'static str, String)> {
    let namespace = parent.namespace.as_ref().unwrap_or(&source.namespace);
    let service = Key::new(namespace.clone(), parent.name.clone());
    let Some(found) = objects.services.get(&service) else {
        return Err(("name", format!("service `{}` does not exist in namespace `{namespace}`", parent.name)));
    };
    // A route in another namespace than the Service's is its callers' own.
    let callers = (*namespace != source.namespace).then(|| source.namespace.clone());
    let meant = |port: &&api::core::ServicePort| {
        port.protocol == Transport::Tcp
            && parent.port.is_none_or(|p| p == port.port)
            && parent.section_name.as_ref().is_none_or(|name| *name == port.name)
    };
    let places: Vec<Place> = found
        .spec
        .ports
        .iter()
        .filter(meant)
        .map(|port| Place { service: service.clone(), port: port.port.get(), callers: callers.clone() })
        .collect();
    if places.is_empty() && (parent.port.is_some() || parent.section_name.is_some()) {
        let field = if parent.port.is_some() { "port" } else { "sectionName" };
        return Err((field, format!("service `{}` has no such port", parent.name)));
    }
    Ok(places)
}

/// Which of the routes at one port hold, and their rules in order.
fn decide(place: Place, mut attached: Vec<Attached>, problems: &mut Vec<Problem>) -> Option<PortRouting> {
    let rank = attached.iter().map(|one| one.rank).min()?;
    let winner = attached.iter().find(|one| one.rank == rank)?.source.clone();
    attached.retain(|one| {
        // TCP has nothing to tell routes apart by, so that only one can hold.
        let holds = one.rank == rank && (rank != Rank::Tcp || one.source == winner);
        if !holds {
            let at = format!("at port {} of service `{}`", place.port, place.service.name);
            let message = format!("{winner} holds {at}: this has no effect there");
            problems.push(
                Problem::new(Reason::Conflict, one.source.clone(), message).at(FieldPath::spec().key("parentRefs")),
            );
        }
        holds
    });
    let mut rules: Vec<RouteRule> = attached.into_iter().flat_map(|one| one.rules).collect();
    order::sort(&mut rules);
    let Place { service, port, callers } = place;
    Some(PortRouting { source: winner, service, port, callers, rules, otherwise: Otherwise::NotFound })
}
