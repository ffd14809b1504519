//! A cluster's hosts as they are at one moment.

use std::sync::Arc;

use crate::net::Address;
use crate::stream::Metadata;

/// What the configuration says of a host's health. Source: `core.v3.HealthStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Healthy,
    Degraded,
    Unhealthy,
}

/// One endpoint.
#[derive(Debug)]
pub struct Host {
    pub address: Address,
    /// The endpoint's own name, or the name it was resolved from.
    pub hostname: Arc<str>,
    /// 1 to 2³¹-1.
    pub weight: u32,
    /// 0 is used first.
    pub priority: u32,
    pub health: Health,
    pub metadata: Arc<Metadata>,
}

/// All hosts, and those that may be chosen.
#[derive(Debug, Default)]
pub struct HostSet {
    pub all: Vec<Arc<Host>>,
    /// By priority.
    pub priorities: Vec<Priority>,
}

/// The hosts of one priority and the share of requests they get.
#[derive(Debug, Default)]
pub struct Priority {
    pub usable: Vec<Arc<Host>>,
    /// Percent; all priorities' loads add up to 100, or all are 0 without hosts.
    pub load: u32,
    /// Too few are healthy: unhealthy ones are used too.
    pub panic: bool,
}

/// Healthy hosts count for this much more than their number (percent).
/// Source: `ClusterLoadAssignment.Policy.overprovisioning_factor`.
const OVERPROVISIONING: u64 = 140;

impl HostSet {
    /// Spreads the load over the priorities as Envoy does: the first takes all it is healthy enough for.
    pub fn new(all: Vec<Arc<Host>>, panic_threshold: f64) -> Self {
        let count = all.iter().map(|h| h.priority).max().map_or(0, |p| p as usize + 1);
        let mut groups: Vec<Vec<Arc<Host>>> = vec![Vec::new(); count];
        for host in &all {
            if let Some(group) = groups.get_mut(host.priority as usize) {
                group.push(host.clone());
            }
        }
        let available: Vec<u64> = groups.iter().map(|group| availability(group)).collect();
        let total: u64 = available.iter().sum::<u64>().min(100);
        let mut left = 100u32;
        let mut priorities: Vec<Priority> = groups
            .into_iter()
            .zip(&available)
            .map(|(group, health)| {
                let share = (health * 100).checked_div(total).unwrap_or(0).min(u64::from(left)) as u32;
                left -= share;
                priority(group, share, panic_threshold, total)
            })
            .collect();
        // Rounding, or nobody healthy at all: the first priority that has hosts takes the rest.
        let first = priorities.iter().position(|p| p.load > 0 || (total == 0 && !p.usable.is_empty()));
        if let Some(first) = first.and_then(|at| priorities.get_mut(at)) {
            first.load += left;
        }
        HostSet { all, priorities }
    }

    pub fn healthy(&self) -> usize {
        self.all.iter().filter(|h| h.health == Health::Healthy).count()
    }

    /// The priority whose share the number falls into.
    pub fn priority(&self, random: u64) -> Option<(usize, &Priority)> {
        let mut point = random % 100;
        self.priorities.iter().enumerate().find(|(_, p)| {
            let load = u64::from(p.load);
            let inside = point < load;
            point = point.wrapping_sub(load);
            inside
        })
    }
}

/// How much of the whole load a priority could take, 0 to 100.
fn availability(group: &[Arc<Host>]) -> u64 {
    if group.is_empty() {
        return 0;
    }
    let usable = group.iter().filter(|h| h.health != Health::Unhealthy).count() as u64;
    (usable * OVERPROVISIONING / group.len() as u64).min(100)
}

fn priority(group: Vec<Arc<Host>>, load: u32, panic_threshold: f64, total: u64) -> Priority {
    let healthy = group.iter().filter(|h| h.health == Health::Healthy).count();
    let share = if group.is_empty() { 0.0 } else { healthy as f64 * 100.0 / group.len() as f64 };
    let degraded = group.iter().any(|h| h.health == Health::Degraded);
    let panic = !group.is_empty() && share < panic_threshold && total < 100 && !degraded;
    let usable = if panic {
        group
    } else {
        let healthy: Vec<_> = group.iter().filter(|h| h.health == Health::Healthy).cloned().collect();
        if healthy.is_empty() { group.into_iter().filter(|h| h.health == Health::Degraded).collect() } else { healthy }
    };
    Priority { usable, load, panic }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(port: u16, priority: u32, health: Health) -> Arc<Host> {
        Arc::new(Host {
            address: Address::Ip(([127, 0, 0, 1], port).into()),
            hostname: "".into(),
            weight: 1,
            priority,
            health,
            metadata: Arc::default(),
        })
    }

    /// Per priority: (healthy, unhealthy) hosts → (load, panic).
    fn check(groups: &[(u16, u16)], expected: &[(u32, bool)]) {
        let mut hosts = Vec::new();
        for (p, (healthy, unhealthy)) in groups.iter().enumerate() {
            hosts.extend((0..*healthy).map(|n| host(n, p as u32, Health::Healthy)));
            hosts.extend((0..*unhealthy).map(|n| host(100 + n, p as u32, Health::Unhealthy)));
        }
        let set = HostSet::new(hosts, 50.0);
        let got: Vec<_> = set.priorities.iter().map(|p| (p.load, p.panic)).collect();
        assert_eq!(got, expected, "{groups:?}");
    }

    #[test]
    fn loads() {
        check(&[(2, 0)], &[(100, false)]);
        check(&[(2, 0), (2, 0)], &[(100, false), (0, false)]);
        check(&[(1, 1), (2, 0)], &[(70, false), (30, false)]);
        check(&[(0, 2), (2, 0)], &[(0, false), (100, false)]);
        check(&[(0, 2)], &[(100, true)]);
        check(&[], &[]);
    }
}
