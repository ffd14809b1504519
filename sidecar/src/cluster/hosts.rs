//! A cluster's hosts as they are at one moment, and how the load is spread over their priorities and localities.

use std::sync::Arc;

use super::host_stats::HostStats;
use crate::net::Address;
use crate::stream::Metadata;

/// May the host be used? Source: `core.v3.HealthStatus`, and what checks and outlier detection found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Healthy,
    Degraded,
    Unhealthy,
}

/// Why it is as it is, for the admin pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub failed_check: bool,
    pub pending_check: bool,
    pub degraded_check: bool,
    pub ejected: bool,
}

/// Where a host is. Source: `core.v3.Locality`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    pub region: String,
    pub zone: String,
    pub sub_zone: String,
    /// Of the locality among its priority's; 0: it gets nothing where localities are weighted.
    pub weight: u32,
}

/// How a host is health checked in ways of its own. Source: `Endpoint.HealthCheckConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCheck {
    pub port: Option<u16>,
    pub address: Option<Address>,
    pub hostname: Arc<str>,
    pub disabled: bool,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub struct Host {
    pub address: Address,
    /// The endpoint's own name, or the name it was resolved from.
    pub hostname: Arc<str>,
    /// 1 to 2³¹-1.
    pub weight: u32,
    /// 0 is used first.
    pub priority: u32,
    /// What the configuration says.
    pub configured: Health,
    /// What counts.
    pub health: Health,
    pub flags: Flags,
    pub locality: Arc<Locality>,
    pub check: Arc<HostCheck>,
    pub metadata: Arc<Metadata>,
    pub stats: Arc<HostStats>,
}

impl Host {
    /// A healthy host of which nothing but the address is known.
    pub fn at(address: Address) -> Self {
        Host {
            address,
            hostname: "".into(),
            weight: 1,
            priority: 0,
            configured: Health::Healthy,
            health: Health::Healthy,
            flags: Flags::default(),
            locality: Arc::default(),
            check: Arc::default(),
            metadata: Arc::default(),
            stats: Arc::default(),
        }
    }
}

/// How a cluster spreads its load. Source: `CommonLbConfig`, `ClusterLoadAssignment.Policy`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Below this share of usable hosts (percent), all are used; 50.
    pub panic_threshold: f64,
    /// Then none is, instead. Source: `fail_traffic_on_panic`.
    pub fail_on_panic: bool,
    /// Localities get shares by their weights.
    pub weigh_localities: bool,
    /// Percent by which the usable hosts may be overloaded; 140.
    pub overprovisioning: u32,
}

impl Default for Spread {
    fn default() -> Self {
        Spread { panic_threshold: 50.0, fail_on_panic: false, weigh_localities: false, overprovisioning: 140 }
    }
}

/// All hosts, and those that may be chosen.
#[derive(Debug, Default)]
pub struct HostSet {
    pub all: Vec<Arc<Host>>,
    /// Those of each priority that are well, then those that are degraded.
    pub groups: Vec<Group>,
}

/// Hosts that are chosen from together, and the share of requests they get.
#[derive(Debug, Default)]
pub struct Group {
    /// The priority.
    pub priority: u32,
    pub localities: Vec<LocalityHosts>,
    /// Percent; all groups' loads add up to 100, or all are 0 without hosts.
    pub load: u32,
    /// Too few are usable: all are used.
    pub panic: bool,
}

/// The usable hosts of one locality; all localities together where they are not weighted.
#[derive(Debug, Default)]
pub struct LocalityHosts {
    /// As reduced by what is not usable there.
    pub weight: f64,
    pub hosts: Vec<Arc<Host>>,
}

/// One priority's numbers, in percent of the whole load it could take.
#[derive(Clone, Copy)]
struct Able {
    healthy: u64,
    degraded: u64,
}

impl HostSet {
    /// Spreads the load as Envoy does: the first priority takes all it is able to, degraded hosts what is left.
    /// Source: Envoy's `LoadBalancerBase::recalculatePerPriorityState`.
    pub fn new(all: Vec<Arc<Host>>, spread: Spread) -> Self {
        let count = all.iter().map(|h| h.priority).max().map_or(0, |p| p as usize + 1);
        let mut priorities: Vec<Vec<Arc<Host>>> = vec![Vec::new(); count];
        for host in &all {
            if let Some(hosts) = priorities.get_mut(host.priority as usize) {
                hosts.push(host.clone());
            }
        }
        let able: Vec<Able> = priorities.iter().map(|hosts| able(hosts, spread)).collect();
        let total = able.iter().map(|a| a.healthy + a.degraded).sum::<u64>().min(100);
        let mut left = 100;
        let mut take = |share: u64| {
            let load = (share * 100).checked_div(total).unwrap_or(0).min(left);
            left -= load;
            load as u32
        };
        let healthy_loads: Vec<u32> = able.iter().map(|a| take(a.healthy)).collect();
        let degraded_loads: Vec<u32> = able.iter().map(|a| take(a.degraded)).collect();
        let mut groups = Vec::new();
        for (priority, (hosts, load)) in priorities.iter().zip(healthy_loads).enumerate() {
            groups.push(group(priority as u32, hosts, Health::Healthy, load, spread, total < 100));
        }
        for (priority, (hosts, load)) in priorities.iter().zip(degraded_loads).enumerate() {
            groups.push(group(priority as u32, hosts, Health::Degraded, load, spread, false));
        }
        // Rounding, or nobody usable at all: the first group that has hosts takes the rest.
        let first = groups.iter().position(|g| g.load > 0 || (total == 0 && (g.panic || !g.localities.is_empty())));
        if let Some(first) = first.and_then(|at| groups.get_mut(at)) {
            first.load += left as u32;
        }
        HostSet { all, groups }
    }

    pub fn count(&self, health: Health) -> usize {
        self.all.iter().filter(|h| h.health == health).count()
    }

    /// The group whose share the number falls into.
    pub fn group(&self, random: u64) -> Option<(usize, &Group)> {
        let mut point = random % 100;
        self.groups.iter().enumerate().find(|(_, group)| {
            let load = u64::from(group.load);
            let inside = point < load;
            point = point.wrapping_sub(load);
            inside
        })
    }

    /// The hosts that are used first.
    pub fn first_choice(&self) -> impl Iterator<Item = &Arc<Host>> {
        let group = self.groups.iter().find(|group| group.load > 0);
        group.into_iter().flat_map(|group| &group.localities).flat_map(|locality| &locality.hosts)
    }
}

fn able(hosts: &[Arc<Host>], spread: Spread) -> Able {
    let share = |health: Health| {
        let usable = hosts.iter().filter(|h| h.health == health).count() as u64;
        (usable * u64::from(spread.overprovisioning)).checked_div(hosts.len() as u64).unwrap_or(0).min(100)
    };
    let healthy = share(Health::Healthy);
    Able { healthy, degraded: share(Health::Degraded).min(100 - healthy) }
}

fn group(priority: u32, hosts: &[Arc<Host>], health: Health, load: u32, spread: Spread, may_panic: bool) -> Group {
    let usable = hosts.iter().filter(|h| h.health != Health::Unhealthy).count();
    let share = if hosts.is_empty() { 100.0 } else { usable as f64 * 100.0 / hosts.len() as f64 };
    let panic = may_panic && share < spread.panic_threshold;
    let chosen: Vec<Arc<Host>> = match (panic, spread.fail_on_panic) {
        (true, true) => Vec::new(),
        (true, false) => hosts.to_vec(),
        (false, _) => hosts.iter().filter(|h| h.health == health).cloned().collect(),
    };
    let localities = if spread.weigh_localities && !panic {
        by_locality(hosts, &chosen, spread)
    } else if chosen.is_empty() {
        Vec::new()
    } else {
        vec![LocalityHosts { weight: 1.0, hosts: chosen }]
    };
    Group { priority, localities, load, panic }
}

/// Source: Envoy's `HostSetImpl::effectiveLocalityWeight`.
fn by_locality(all: &[Arc<Host>], chosen: &[Arc<Host>], spread: Spread) -> Vec<LocalityHosts> {
    let mut localities: Vec<(&Arc<Locality>, LocalityHosts)> = Vec::new();
    for host in chosen {
        match localities.iter_mut().find(|(locality, _)| **locality == host.locality) {
            Some((_, group)) => group.hosts.push(host.clone()),
            None => localities.push((&host.locality, LocalityHosts { weight: 0.0, hosts: vec![host.clone()] })),
        }
    }
    for (locality, group) in &mut localities {
        let total = all.iter().filter(|h| h.locality == **locality).count() as f64;
        let able = f64::from(spread.overprovisioning) / 100.0 * group.hosts.len() as f64 / total.max(1.0);
        group.weight = f64::from(locality.weight) * able.min(1.0);
    }
    localities.into_iter().map(|(_, group)| group).filter(|group| group.weight > 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(port: u16, priority: u32, health: Health) -> Arc<Host> {
        Arc::new(Host { priority, health, ..Host::at(Address::Ip(([127, 0, 0, 1], port).into())) })
    }

    /// Per priority: (healthy, degraded, unhealthy) hosts → (load, panic) of the healthy groups, then of the degraded.
    fn check(priorities: &[(u16, u16, u16)], expected: &[(u32, bool)]) {
        let mut hosts = Vec::new();
        for (p, (healthy, degraded, unhealthy)) in priorities.iter().enumerate() {
            hosts.extend((0..*healthy).map(|n| host(n, p as u32, Health::Healthy)));
            hosts.extend((0..*degraded).map(|n| host(50 + n, p as u32, Health::Degraded)));
            hosts.extend((0..*unhealthy).map(|n| host(100 + n, p as u32, Health::Unhealthy)));
        }
        let set = HostSet::new(hosts, Spread::default());
        let got: Vec<_> = set.groups.iter().map(|p| (p.load, p.panic)).collect();
        assert_eq!(got, expected, "{priorities:?}");
    }

    #[test]
    fn loads() {
        check(&[(2, 0, 0)], &[(100, false), (0, false)]);
        check(&[(2, 0, 0), (2, 0, 0)], &[(100, false), (0, false), (0, false), (0, false)]);
        check(&[(1, 0, 1), (2, 0, 0)], &[(70, false), (30, false), (0, false), (0, false)]);
        check(&[(0, 0, 2), (2, 0, 0)], &[(0, false), (100, false), (0, false), (0, false)]);
        check(&[(0, 0, 2)], &[(100, true), (0, false)]);
        check(&[(1, 1, 0)], &[(70, false), (30, false)]);
        check(&[], &[]);
    }

    #[test]
    fn localities_are_weighed() {
        let at = |port, weight, health| {
            let locality = Arc::new(Locality { zone: format!("z{weight}"), weight, ..Locality::default() });
            Arc::new(Host { locality, health, ..Host::at(Address::Ip(([127, 0, 0, 1], port).into())) })
        };
        let hosts = vec![at(1, 1, Health::Healthy), at(2, 3, Health::Healthy), at(3, 3, Health::Unhealthy)];
        let set = HostSet::new(hosts, Spread { weigh_localities: true, ..Spread::default() });
        let weights: Vec<_> = set.groups[0].localities.iter().map(|l| (l.weight * 10.0).round()).collect();
        assert_eq!(weights, [10.0, 21.0]);
    }
}
