//! SMI objects → routing and grants. Pure: the objects are the whole input, and nothing fails as a whole; what is wrong with
//! one object is told beside what the others mean.

mod route_group;
mod traffic_split;
mod traffic_target;

use api::access::Grant;
use api::mesh_config::PathRegex;
use api::routing::PortRouting;
use api::{Objects, Problem};

pub use route_group::{group_matches, reading_hints};

/// What the TrafficSplits mean: for each port of each root service, at most one routing.
///
/// Source: SMI traffic-split v1alpha4.
#[must_use]
pub fn splits(objects: &Objects, path_regex: PathRegex) -> (Vec<PortRouting>, Vec<Problem>) {
    traffic_split::translate(objects, path_regex)
}

/// What the TrafficTargets allow, one grant a target.
///
/// Source: SMI traffic-access v1alpha3.
#[must_use]
pub fn targets(objects: &Objects, path_regex: PathRegex) -> (Vec<Grant>, Vec<Problem>) {
    traffic_target::translate(objects, path_regex)
}
