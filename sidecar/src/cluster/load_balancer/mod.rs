//! Chooses a host. A balancer belongs to one worker and one state of the hosts; it does no I/O and
//! gets its random numbers from the caller.

mod maglev;
mod murmur;
mod ring_hash;
mod round_robin;

use std::sync::Arc;

use super::{Host, HostSet, LbPolicy};
use round_robin::{RoundRobin, Turns};

pub use ring_hash::RingSize;

/// What a choice may depend on.
pub struct Pick<'a> {
    /// For consistent hashing; without one a random number takes its place.
    pub hash: Option<u64>,
    pub random: &'a dyn Fn() -> u64,
    /// Requests that this worker has under way at a host.
    pub active: &'a dyn Fn(&Host) -> u32,
    /// Hosts that should not be chosen again, and how often to draw another.
    pub avoid: &'a dyn Fn(&Host) -> bool,
    pub redraws: u32,
    /// Priorities that should not be chosen again, if there is another.
    pub avoid_priorities: &'a [u32],
}

/// A worker's balancer.
pub struct Balancer {
    hosts: Arc<HostSet>,
    groups: Vec<Localities>,
}

/// A group's localities take turns by weight; within one the policy chooses.
struct Localities {
    turns: Turns,
    policies: Vec<Policy>,
}

enum Policy {
    RoundRobin(RoundRobin),
    LeastRequest { hosts: Vec<Arc<Host>>, choices: u32, weighted: Option<RoundRobin> },
    Random(Vec<Arc<Host>>),
    Ring(ring_hash::Ring),
    Maglev(maglev::Table),
}

impl Balancer {
    pub fn new(policy: LbPolicy, hosts: Arc<HostSet>) -> Self {
        let groups = hosts
            .groups
            .iter()
            .map(|group| Localities {
                turns: Turns::new(group.localities.iter().map(|l| l.weight)),
                policies: group.localities.iter().map(|l| Policy::new(policy, &l.hosts)).collect(),
            })
            .collect();
        Balancer { hosts, groups }
    }

    /// A host, or `None` if no host may be used.
    pub fn pick(&mut self, pick: &Pick<'_>) -> Option<Arc<Host>> {
        let mut chosen = self.draw(pick)?;
        for _ in 0..pick.redraws {
            if !(pick.avoid)(&chosen) {
                break;
            }
            chosen = self.draw(pick)?;
        }
        Some(chosen)
    }

    /// Is the group that would be chosen from in panic?
    pub fn panics(&self) -> bool {
        self.hosts.groups.iter().any(|group| group.panic && group.load > 0)
    }

    /// The points of the ring, and the fewest and most of one host; `None` where there is no ring.
    pub fn ring_size(&self) -> Option<RingSize> {
        self.groups.iter().flat_map(|group| &group.policies).find_map(|policy| match policy {
            Policy::Ring(ring) => Some(ring.size()),
            _ => None,
        })
    }

    fn draw(&mut self, pick: &Pick<'_>) -> Option<Arc<Host>> {
        let random = pick.hash.unwrap_or_else(|| (pick.random)());
        let (mut at, group) = self.hosts.group(random)?;
        if pick.avoid_priorities.contains(&group.priority) {
            let fresh =
                |g: &super::hosts::Group| !g.localities.is_empty() && !pick.avoid_priorities.contains(&g.priority);
            at = self.hosts.groups.iter().position(fresh).unwrap_or(at);
        }
        let localities = self.groups.get_mut(at)?;
        let locality = localities.turns.next()?;
        localities.policies.get_mut(locality)?.draw(pick)
    }
}

impl Policy {
    fn new(policy: LbPolicy, hosts: &[Arc<Host>]) -> Self {
        match policy {
            LbPolicy::RoundRobin => Policy::RoundRobin(RoundRobin::new(hosts)),
            LbPolicy::LeastRequest { choices } => {
                let equal = hosts.windows(2).all(|pair| pair[0].weight == pair[1].weight);
                let weighted = (!equal).then(|| RoundRobin::new(hosts));
                Policy::LeastRequest { hosts: hosts.to_vec(), choices, weighted }
            }
            LbPolicy::Random => Policy::Random(hosts.to_vec()),
            LbPolicy::RingHash { minimum, maximum, hash, by_hostname } => {
                Policy::Ring(ring_hash::Ring::new(hosts, (minimum, maximum), hash, by_hostname))
            }
            LbPolicy::Maglev { size, by_hostname } => Policy::Maglev(maglev::Table::new(hosts, size, by_hostname)),
        }
    }

    fn draw(&mut self, pick: &Pick<'_>) -> Option<Arc<Host>> {
        let any = |hosts: &[Arc<Host>]| {
            let n = hosts.len() as u64;
            hosts.get(((pick.random)() % n.max(1)) as usize).cloned()
        };
        match self {
            Policy::RoundRobin(hosts) => hosts.next(),
            Policy::Random(hosts) => any(hosts),
            // Hosts of unequal weight: in proportion, and among a few such draws the least loaded.
            Policy::LeastRequest { weighted: Some(order), choices, .. } => {
                (0..*choices).filter_map(|_| order.next()).min_by_key(|h| (pick.active)(h))
            }
            Policy::LeastRequest { hosts, choices, .. } => {
                if let [only] = hosts.as_slice() {
                    return Some(only.clone());
                }
                (0..*choices).filter_map(|_| any(hosts)).min_by_key(|h| (pick.active)(h))
            }
            Policy::Ring(ring) => ring.pick(pick.hash.unwrap_or_else(|| (pick.random)())),
            Policy::Maglev(table) => table.pick(pick.hash.unwrap_or_else(|| (pick.random)())),
        }
    }
}

/// What a host's points are hashed from: `hash_key` of its `envoy.lb` metadata, its name, or its address.
fn hash_key(host: &Host, by_hostname: bool) -> String {
    let own = host.metadata.get("envoy.lb").and_then(|m| m.get("hash_key")).and_then(|key| key.as_str());
    match own {
        Some(key) => key.to_owned(),
        None if by_hostname => host.hostname.to_string(),
        None => host.address.to_string(),
    }
}
