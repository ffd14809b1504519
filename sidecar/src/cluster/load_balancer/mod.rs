//! Chooses a host. A balancer belongs to one worker and one state of the hosts; it does no I/O and
//! gets its random numbers from the caller.

mod maglev;
mod ring_hash;
mod round_robin;

use std::sync::Arc;

use super::{Host, HostSet, LbPolicy};

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
}

/// A worker's balancer.
pub struct Balancer {
    hosts: Arc<HostSet>,
    priorities: Vec<Policy>,
}

enum Policy {
    RoundRobin(round_robin::RoundRobin),
    LeastRequest { hosts: Vec<Arc<Host>>, choices: u32, weighted: Option<round_robin::RoundRobin> },
    Random(Vec<Arc<Host>>),
    Ring(ring_hash::Ring),
    Maglev(maglev::Table),
}

impl Balancer {
    pub fn new(policy: LbPolicy, hosts: Arc<HostSet>) -> Self {
        let priorities = hosts.priorities.iter().map(|p| Policy::new(policy, &p.usable)).collect();
        Balancer { hosts, priorities }
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

    /// Is the priority that would be chosen from in panic?
    pub fn panics(&self) -> bool {
        self.hosts.priorities.iter().any(|p| p.panic && p.load > 0)
    }

    fn draw(&mut self, pick: &Pick<'_>) -> Option<Arc<Host>> {
        let random = pick.hash.unwrap_or_else(|| (pick.random)());
        let (at, _) = self.hosts.priority(random)?;
        self.priorities.get_mut(at)?.draw(pick)
    }
}

impl Policy {
    fn new(policy: LbPolicy, hosts: &[Arc<Host>]) -> Self {
        match policy {
            LbPolicy::RoundRobin => Policy::RoundRobin(round_robin::RoundRobin::new(hosts)),
            LbPolicy::LeastRequest { choices } => {
                let equal = hosts.windows(2).all(|pair| pair[0].weight == pair[1].weight);
                let weighted = (!equal).then(|| round_robin::RoundRobin::new(hosts));
                Policy::LeastRequest { hosts: hosts.to_vec(), choices, weighted }
            }
            LbPolicy::Random => Policy::Random(hosts.to_vec()),
            LbPolicy::RingHash { minimum, maximum } => Policy::Ring(ring_hash::Ring::new(hosts, minimum, maximum)),
            LbPolicy::Maglev { size } => Policy::Maglev(maglev::Table::new(hosts, size)),
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
