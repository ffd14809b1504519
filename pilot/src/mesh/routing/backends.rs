//! Backend references → backends by weight. What cannot be resolved keeps its share, which is answered with 500.
//!
//! Source: Gateway API `HTTPRouteRule.backendRefs`.

use api::core::Transport;
use api::gateway::BackendRef;
use api::routing::{Actions, Backend};
use api::{FieldPath, Key, ObjectRef, Objects, Problem, Reason};

use super::actions;

/// The backends of one rule, and the weight of those that cannot be resolved.
#[derive(Default)]
pub(super) struct Backends {
    pub(super) backends: Vec<Backend>,
    pub(super) unresolved: u32,
    pub(super) problems: Vec<Problem>,
}

/// The backends that stand in `field`, a list, of `source`.
pub(super) fn resolve(refs: &[BackendRef], source: &ObjectRef, field: &FieldPath, objects: &Objects) -> Backends {
    let mut all = Backends::default();
    for (n, one) in refs.iter().enumerate() {
        let field = || field.clone().index(n);
        let target = target(one, source, objects)
            .map_err(|(key, message)| (field().key(key), Reason::MissingReference, message));
        let target = target.map(|(service, port)| {
            let actions = actions::from_filters(&one.filters, source, &field().key("filters"), objects);
            all.problems.extend(actions.problems);
            // A filter that cannot be applied must not be skipped.
            (!actions.broken).then_some((service, port, actions.actions))
        });
        match target {
            Ok(Some((service, port, actions))) if one.weight > 0 => {
                push(&mut all.backends, service, port, one.weight, actions)
            }
            Ok(Some(_)) => {}
            Ok(None) => all.unresolved = all.unresolved.saturating_add(one.weight),
            Err((field, reason, message)) => {
                all.unresolved = all.unresolved.saturating_add(one.weight);
                let help = "requests of its share are answered with 500";
                all.problems.push(Problem::new(reason, source.clone(), message).at(field).help(help));
            }
        }
    }
    all
}

fn push(backends: &mut Vec<Backend>, service: Key, port: u16, weight: u32, actions: Actions) {
    backends.push(Backend { service, port, weight, actions });
}

/// The Service's port that a reference means, or which field of it means nothing.
pub(super) fn target(
    one: &BackendRef,
    source: &ObjectRef,
    objects: &Objects,
) -> Result<(Key, u16), (&'static str, String)> {
    if !one.group.is_empty() || one.kind.as_deref().is_some_and(|kind| kind != "Service") {
        let kind = one.kind.as_deref().unwrap_or("Service");
        return Err(("kind", format!("only a Service can be a backend, not {kind}.{}", one.group)));
    }
    let namespace = one.namespace.as_ref().unwrap_or(&source.namespace);
    if *namespace != source.namespace {
        let message = format!(
            "a backend in namespace `{namespace}` needs a ReferenceGrant, which is not read: use a Service of `{}`",
            source.namespace
        );
        return Err(("namespace", message));
    }
    let key = Key::new(namespace.clone(), one.name.clone());
    let Some(service) = objects.services.get(&key) else {
        return Err(("name", format!("service `{}` does not exist in namespace `{namespace}`", one.name)));
    };
    let Some(port) = one.port else {
        return Err(("port", format!("the port of service `{}` is missing", one.name)));
    };
    if !service.spec.ports.iter().any(|p| p.port == port && p.protocol == Transport::Tcp) {
        return Err(("port", format!("service `{}` has no port {port}", one.name)));
    }
    Ok((key, port.get()))
}
