//! Hosts by name: looked up at intervals by a task on the main thread, as long as the cluster lives.
//! Source: Envoy's `StrictDnsClusterImpl` and `LogicalDnsCluster`.

pub mod config;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{ClusterStats, Host};
use crate::net::Address;
use crate::upstream::resolve::{Family, lookup};

/// How a cluster's names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    pub family: Family,
    /// 5 s.
    pub refresh: Duration,
    /// After a failure: base and bound of the wait.
    pub failure: (Duration, Duration),
    /// One address at a time, the first. Source: `LOGICAL_DNS`.
    pub logical: bool,
    /// What is looked up, in the order of the configuration.
    pub names: Vec<Name>,
}

/// One endpoint to be looked up; `host.address` has no meaning yet.
#[derive(Clone, Debug)]
pub struct Name {
    pub name: String,
    pub port: u16,
    pub host: Host,
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.port) == (&other.name, other.port)
    }
}

impl Eq for Name {}

/// Looks names up until the task is dropped; `tell` gets all hosts each time they are known. A name that can't be
/// looked up keeps the addresses it had.
pub async fn watch(dns: Dns, stats: Arc<ClusterStats>, tell: impl Fn(Vec<Arc<Host>>)) {
    let mut known: Vec<Vec<Arc<Host>>> = vec![Vec::new(); dns.names.len()];
    let mut failures = 0u32;
    loop {
        let mut failed = false;
        for (name, hosts) in dns.names.iter().zip(&mut known) {
            stats.update_attempt.inc();
            match resolve(name, &dns).await {
                Ok(found) => {
                    stats.update_success.inc();
                    *hosts = found;
                }
                Err(_) => {
                    stats.update_failure.inc();
                    failed = true;
                }
            }
        }
        let mut all: Vec<Arc<Host>> = Vec::new();
        for host in known.iter().flatten() {
            if !all.iter().any(|other| other.address == host.address && other.priority == host.priority) {
                all.push(host.clone());
            }
        }
        tell(all);
        failures = if failed { failures + 1 } else { 0 };
        tokio::time::sleep(pause(&dns, failures)).await;
    }
}

fn pause(dns: &Dns, failures: u32) -> Duration {
    if failures == 0 {
        return dns.refresh;
    }
    let (base, most) = dns.failure;
    let bound = base.saturating_mul(1 << failures.min(16)).min(most);
    base.min(bound) + bound.saturating_sub(base).mul_f64(fastrand::f64())
}

async fn resolve(name: &Name, dns: &Dns) -> std::io::Result<Vec<Arc<Host>>> {
    let mut found = match name.name.parse() {
        Ok(ip) => vec![ip],
        Err(_) => lookup(&name.name, dns.family).await?,
    };
    if dns.logical {
        found.truncate(1);
    }
    let host = |ip| {
        let hostname =
            if name.host.hostname.is_empty() { name.name.as_str().into() } else { name.host.hostname.clone() };
        Arc::new(Host { address: Address::Ip(SocketAddr::new(ip, name.port)), hostname, ..name.host.clone() })
    };
    Ok(found.into_iter().map(host).collect())
}
