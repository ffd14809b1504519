//! ir → Envoy's resources, one file an xDS type. Pure; the only place, beside `ads`, that knows Envoy's messages.
//!
//! A resource's version is a hash of the ir that it was made from: the messages themselves encode in no fixed order.

mod access_log;
mod captured;
mod cluster;
mod endpoint;
mod http;
mod listener;
mod matcher;
mod rbac;
mod route;
mod route_action;
mod tls;
mod tracing;
mod value;

use std::hash::{DefaultHasher, Hash, Hasher};

use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};
use xds::{Resource, ResourceSet};

use crate::ir::{Assignment, ProxyPlan};

/// Counts changes of this stage's own doing, so that a new pilot's resources differ in version from an old one's.
const GENERATION: u32 = 2;

/// Listeners, route configurations and clusters of a plan.
#[must_use]
pub fn resources(plan: &ProxyPlan) -> ResourceSet {
    let mut set = ResourceSet::default();
    for listener in &plan.listeners {
        set.insert(Resource::encode(&listener.name(), &version(listener), &listener::listener(listener)));
    }
    for table in &plan.routes {
        set.insert(Resource::encode(&table.name, &version(table), &route::table(table)));
    }
    for cluster in &plan.clusters {
        set.insert(Resource::encode(&cluster.name, &version(cluster), &cluster::cluster(cluster)));
    }
    set
}

/// Cluster load assignments.
#[must_use]
pub fn endpoints(assignments: &[Assignment]) -> ResourceSet {
    let encode = |one: &Assignment| Resource::encode(&one.cluster, &version(one), &endpoint::assignment(one));
    assignments.iter().map(encode).collect()
}

fn version(made_from: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    GENERATION.hash(&mut hasher);
    made_from.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// A message as an extension's configuration.
fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: xds::type_url::of(&M::full_name()), value: message.encode_to_vec() }
}
