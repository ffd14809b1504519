//! TrafficPolicies: how calls to one Service behave, with MeshConfig's defaults filled in.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::routing::{MirrorTo, RequestMatch};
use api::traffic_policy::{
    CircuitBreaker, ConnectionPool, Fault, LoadBalancer, OutlierDetection, RateLimit, Retry, Timeout, TrafficPolicy,
};
use api::{FieldPath, GoDuration, Key, Kind, ObjectRef, Objects, Problem, Reason};

use super::Settings;

/// How calls to one Service behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The TrafficPolicy; absent where only defaults hold.
    pub source: Option<ObjectRef>,
    /// To connect to a host; absent: the plan's own default.
    pub connect_timeout: Option<GoDuration>,
    /// How a host is chosen.
    pub load_balancer: LoadBalancer,
    /// How much may be under way from one caller.
    pub circuit_breaker: CircuitBreaker,
    /// When a failing host is left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// How connections are kept.
    pub connection_pool: ConnectionPool,
    /// How many requests each destination takes.
    pub rate_limit: Option<RateLimit>,
    /// Requests for which something else holds than `calls`.
    pub matched: Option<MatchedCalls>,
    /// What holds for all other requests.
    pub calls: CallPolicy,
}

/// What holds for some requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchedCalls {
    /// Those that any of these accepts; none if empty.
    pub matches: Vec<RequestMatch>,
    /// What holds for them.
    pub calls: CallPolicy,
}

/// What holds for a request. Calls to the mirror's port are resolved where the called port is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CallPolicy {
    /// The whole request, never zero; absent: none.
    pub timeout: Option<GoDuration>,
    /// With no byte in either direction; absent: Envoy's default, zero: none.
    pub idle_timeout: Option<GoDuration>,
    /// Retries, which may be none.
    pub retry: Retry,
    /// Faults to inject.
    pub fault: Fault,
    /// Where copies go. A port of 0 means the called one.
    pub mirror: Option<MirrorTo>,
}

impl Policy {
    /// What holds for Services without a policy of their own.
    #[must_use]
    pub fn of_defaults(settings: &Settings) -> Self {
        Self {
            source: None,
            connect_timeout: settings.defaults.timeout.and_then(|timeout| timeout.connect),
            load_balancer: LoadBalancer::default(),
            circuit_breaker: CircuitBreaker::default(),
            outlier_detection: None,
            connection_pool: ConnectionPool::default(),
            rate_limit: None,
            matched: None,
            calls: calls(None, settings, None),
        }
    }
}

fn calls(policy: Option<&TrafficPolicy>, settings: &Settings, mirror: Option<MirrorTo>) -> CallPolicy {
    let spec = policy.map(|policy| &policy.spec);
    let timeout: Timeout = spec.and_then(|spec| spec.timeout).or(settings.defaults.timeout).unwrap_or_default();
    let retry = spec.and_then(|spec| spec.retry.as_ref()).or(settings.defaults.retry.as_ref());
    CallPolicy {
        timeout: timeout.request.filter(|limit| !limit.is_zero()),
        idle_timeout: timeout.idle,
        retry: retry.cloned().unwrap_or_default(),
        fault: spec.and_then(|spec| spec.fault).unwrap_or_default(),
        mirror,
    }
}

/// The policies by Service. Of two for one, the older holds.
pub(super) fn build(objects: &Objects, settings: &Settings) -> (BTreeMap<Key, Arc<Policy>>, Vec<Problem>) {
    let mut found: BTreeMap<Key, (Arc<Policy>, ObjectRef)> = BTreeMap::new();
    let mut problems = Vec::new();
    let mut policies: Vec<(&Key, &TrafficPolicy)> =
        objects.traffic_policies.iter().map(|(key, stored)| (key, stored.object.as_ref())).collect();
    policies.sort_by(|(_, a), (_, b)| a.metadata.age(&b.metadata));
    for (key, policy) in policies {
        let object = ObjectRef::new(Kind::TrafficPolicy, key);
        let field = || FieldPath::spec().key("targetRef").key("name");
        let service = Key::new(key.namespace.clone(), policy.spec.target_ref.name.clone());
        if !objects.services.contains_key(&service) {
            let message = format!("service `{}` does not exist in namespace `{}`", service.name, service.namespace);
            problems.push(Problem::new(Reason::MissingReference, object.clone(), message).at(field()));
        }
        if let Some((_, older)) = found.get(&service) {
            let message =
                format!("service `{}` has the older {older} already: this policy has no effect", service.name);
            let help = "keep one policy for each service";
            problems.push(Problem::new(Reason::Conflict, object, message).at(field()).help(help));
            continue;
        }
        let built = one(policy, &object, objects, settings, &mut problems);
        found.insert(service, (Arc::new(built), object));
    }
    (found.into_iter().map(|(service, (policy, _))| (service, policy)).collect(), problems)
}

fn one(
    policy: &TrafficPolicy,
    object: &ObjectRef,
    objects: &Objects,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Policy {
    let spec = &policy.spec;
    let own = calls(Some(policy), settings, mirror(policy, object, objects, problems));
    let (calls, matched) = if spec.matches.is_empty() {
        (own, None)
    } else {
        let field = FieldPath::spec().key("matches");
        let (matches, more) =
            smi_adapter::translate::group_matches(&spec.matches, object, &field, objects, settings.path_regex);
        problems.extend(more);
        (calls(None, settings, None), Some(MatchedCalls { matches, calls: own }))
    };
    Policy {
        source: Some(object.clone()),
        connect_timeout: spec.timeout.or(settings.defaults.timeout).and_then(|timeout| timeout.connect),
        load_balancer: spec.load_balancer.clone().unwrap_or_default(),
        circuit_breaker: spec.circuit_breaker,
        outlier_detection: spec.outlier_detection,
        connection_pool: spec.connection_pool,
        rate_limit: spec.rate_limit,
        matched,
        calls,
    }
}

fn mirror(
    policy: &TrafficPolicy,
    object: &ObjectRef,
    objects: &Objects,
    problems: &mut Vec<Problem>,
) -> Option<MirrorTo> {
    let written = policy.spec.mirror.as_ref()?;
    let field = FieldPath::spec().key("mirror");
    let service = Key::new(object.namespace.clone(), written.service.split('.').next().unwrap_or_default());
    let Some(found) = objects.services.get(&service) else {
        let message = format!(
            "service `{}` does not exist in namespace `{}`: nothing is mirrored",
            service.name, service.namespace
        );
        problems.push(Problem::new(Reason::MissingReference, object.clone(), message).at(field.key("service")));
        return None;
    };
    if let Some(port) = written.port.filter(|port| !found.spec.ports.iter().any(|p| p.port == *port)) {
        let message = format!("service `{}` has no port {port}: nothing is mirrored", service.name);
        problems.push(Problem::new(Reason::MissingReference, object.clone(), message).at(field.key("port")));
        return None;
    }
    Some(MirrorTo { service, port: written.port.map_or(0, api::scalar::Port::get), percent: written.percent })
}
