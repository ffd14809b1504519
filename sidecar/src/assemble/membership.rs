//! One cluster's hosts as they are found to be: what its configuration or EDS or DNS names, what health checks and
//! outlier detection say of each. Tasks on the main thread ask and look up; what they find comes back as [`Event`]s.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cluster::health_check::{self, Answer, HealthCheck, HealthStats, Record, Verdict};
use crate::cluster::host_stats::{Count, HostStats};
use crate::cluster::hosts::Flags;
use crate::cluster::outlier::{Cause, Ejection, judge, outliers};
use crate::cluster::{Cluster, Discovery, Health, Host, HostSet, dns};
use crate::net::Address;

/// What a cluster's tasks found.
pub struct Event {
    /// Which membership it is for: a cluster that was replaced hears nothing of its predecessor.
    pub id: u64,
    pub what: Found,
}

pub enum Found {
    /// All hosts that the cluster's names stand for now.
    Resolved(Vec<Arc<Host>>),
    Checked(Address, Answer),
    /// A run of failures.
    Misbehaved(Address, Cause),
    /// Outlier detection's interval is over.
    Look,
}

struct Member {
    host: Arc<Host>,
    stats: Arc<HostStats>,
    record: Record,
    ejection: Ejection,
    /// Answers and successes at the last look, for both kinds of rates.
    seen: [(u64, u64); 2],
    checking: Option<JoinHandle<()>>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.checking.iter().for_each(|task| task.abort());
    }
}

/// A cluster's hosts.
pub struct Membership {
    pub id: u64,
    cluster: Arc<Cluster>,
    members: Vec<Member>,
    events: mpsc::UnboundedSender<Event>,
    tasks: Vec<JoinHandle<()>>,
    health_stats: Option<HealthStats>,
    workers: usize,
    /// DNS has answered, or there is none to answer.
    resolved: bool,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.tasks.iter().for_each(|task| task.abort());
        let ejected = self.members.iter().filter(|m| m.ejection.is_active()).count();
        if let Some(outlier) = &self.cluster.outlier {
            outlier.stats.active.sub(ejected as u64);
        }
    }
}

impl Membership {
    pub fn new(id: u64, cluster: Arc<Cluster>, workers: usize, events: mpsc::UnboundedSender<Event>) -> Self {
        let checked = !cluster.health_checks.is_empty();
        let health_stats = checked.then(|| HealthStats::new(&cluster.stats.scope));
        let resolved = !matches!(cluster.discovery, Discovery::Dns(_));
        Membership { id, cluster, members: Vec::new(), events, tasks: Vec::new(), health_stats, workers, resolved }
    }

    /// Begins to look names up and to compare rates. Once.
    pub fn start(&mut self) {
        let tell = self.teller();
        if let Discovery::Dns(dns) = &self.cluster.discovery {
            let (dns, stats) = (dns.clone(), self.cluster.stats.clone());
            let tell = tell.clone();
            self.tasks.push(tokio::spawn(dns::watch(dns, stats, move |hosts| tell(Found::Resolved(hosts)))));
        }
        let Some(outlier) = &self.cluster.outlier else { return };
        let (told, mut heard) = mpsc::unbounded_channel();
        // A cluster that was restarted keeps its first channel.
        let _ = outlier.told.set(told);
        let interval = outlier.rules.interval;
        self.tasks.push(tokio::spawn(async move {
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
            loop {
                tokio::select! {
                    _ = ticks.tick() => tell(Found::Look),
                    Some((address, cause)) = heard.recv() => tell(Found::Misbehaved(address, cause)),
                }
            }
        }));
    }

    fn teller(&self) -> impl Fn(Found) + Clone + Send + Sync + use<> {
        let (id, events) = (self.id, self.events.clone());
        move |what| {
            // The assembly outlives its clusters except at the very end.
            let _ = events.send(Event { id, what });
        }
    }

    /// Can it serve? Names must have been looked up and checked hosts must have been asked once.
    pub fn is_ready(&self) -> bool {
        self.resolved && !self.members.iter().any(|m| m.checking.is_some() && m.record.verdict == Verdict::Pending)
    }

    /// Takes the list of hosts. Those that stay keep what is known of them.
    pub fn update(&mut self, hosts: Vec<Arc<Host>>) {
        let mut before = std::mem::take(&mut self.members);
        for host in hosts {
            let kept = before.iter().position(|m| m.host.address == host.address).map(|at| before.swap_remove(at));
            let mut member = kept.unwrap_or_else(|| Member {
                host: host.clone(),
                stats: HostStats::new(self.workers),
                record: Record::default(),
                ejection: Ejection::default(),
                seen: [(0, 0); 2],
                checking: None,
            });
            member.host = host;
            self.members.push(member);
        }
        for index in 0..self.members.len() {
            self.check(index);
        }
    }

    fn check(&mut self, index: usize) {
        let tell = self.teller();
        let (Some(check), Some(stats)) = (self.cluster.health_checks.first(), &self.health_stats) else { return };
        let Some(member) = self.members.get_mut(index).filter(|m| m.checking.is_none() && !m.host.check.disabled)
        else {
            return;
        };
        let (cluster, host, address) = (self.cluster.clone(), member.host.clone(), member.host.address.clone());
        let asking = health_check::watch(cluster, host, check.clone(), stats.clone(), move |answer| {
            tell(Found::Checked(address.clone(), answer));
        });
        member.checking = Some(tokio::spawn(asking));
    }

    /// True if the hosts that may be used changed.
    pub fn hear(&mut self, what: Found) -> bool {
        match what {
            Found::Resolved(hosts) => {
                self.resolved = true;
                self.update(hosts);
                true
            }
            Found::Checked(address, answer) => self.checked(&address, answer),
            Found::Misbehaved(address, cause) => {
                let at = self.members.iter().position(|m| m.host.address == address);
                at.is_some_and(|at| self.eject(at, cause))
            }
            Found::Look => self.look(),
        }
    }

    fn checked(&mut self, address: &Address, answer: Answer) -> bool {
        let Some(check) = self.cluster.health_checks.first().cloned() else { return false };
        let forgives = self.cluster.outlier.as_ref().filter(|outlier| outlier.rules.checks_forgive);
        let Some(member) = self.members.iter_mut().find(|m| m.host.address == *address) else { return false };
        let changed = member.record.take(answer, &check);
        let forgiven = forgives.is_some() && member.ejection.is_active() && member.record.verdict == Verdict::Healthy;
        if let (true, Some(outlier)) = (forgiven, forgives) {
            member.ejection = Ejection::default();
            member.stats.forgive();
            outlier.stats.active.dec();
        }
        changed || forgiven
    }

    fn eject(&mut self, at: usize, cause: Cause) -> bool {
        let Some(outlier) = &self.cluster.outlier else { return false };
        let ejected = self.members.iter().filter(|m| m.ejection.is_active()).count();
        let total = self.members.len();
        let Some(member) = self.members.get_mut(at) else { return false };
        let dice = (Instant::now(), fastrand::u64(..));
        judge(&mut member.ejection, cause, (ejected, total), &outlier.rules, &outlier.stats, dice)
    }

    fn look(&mut self) -> bool {
        let Some(outlier) = &self.cluster.outlier else { return false };
        let now = Instant::now();
        let mut changed = false;
        for member in &mut self.members {
            if member.ejection.look(now) {
                member.stats.forgive();
                outlier.stats.active.dec();
                changed = true;
            }
        }
        let mut found = Vec::new();
        let kinds: &[bool] = if outlier.rules.split_local { &[false, true] } else { &[false] };
        for local in kinds.iter().copied() {
            let rates: Vec<(u64, u64)> = self.members.iter_mut().map(|m| m.rate(local)).collect();
            found.extend(outliers(&rates, &outlier.rules, local));
        }
        for (at, cause) in found {
            changed |= self.eject(at, cause);
        }
        changed
    }

    /// The hosts as they may be used now, and their gauges set.
    pub fn hosts(&self) -> Arc<HostSet> {
        let all: Vec<Arc<Host>> = self.members.iter().map(|m| Arc::new(m.host_now())).collect();
        let set = Arc::new(HostSet::new(all, self.cluster.spread));
        let stats = &self.cluster.stats;
        let count = |health| set.count(health) as u64;
        stats.membership_total.set(set.all.len() as u64);
        stats.membership_healthy.set(count(Health::Healthy));
        stats.membership_degraded.set(count(Health::Degraded));
        let pending = self.members.iter().filter(|m| m.checking.is_some() && m.record.verdict == Verdict::Pending);
        stats.membership_excluded.set(pending.count() as u64);
        if let Some(health) = &self.health_stats {
            health.healthy.set(count(Health::Healthy));
            health.degraded.set(count(Health::Degraded));
        }
        set
    }

    /// The check that all hosts get.
    pub fn health_check(&self) -> Option<&HealthCheck> {
        self.cluster.health_checks.first()
    }
}

impl Member {
    fn host_now(&self) -> Host {
        let checked = self.checking.is_some();
        let verdict = self.record.verdict;
        let flags = Flags {
            failed_check: checked && matches!(verdict, Verdict::Failed | Verdict::Pending),
            pending_check: checked && verdict == Verdict::Pending,
            degraded_check: checked && verdict == Verdict::Degraded,
            ejected: self.ejection.is_active(),
        };
        let health = match self.host.configured {
            _ if flags.failed_check || flags.ejected => Health::Unhealthy,
            Health::Healthy if flags.degraded_check => Health::Degraded,
            configured => configured,
        };
        Host { health, flags, stats: self.stats.clone(), ..Host::clone(&self.host) }
    }

    /// Successes and answers since the last look.
    fn rate(&mut self, local: bool) -> (u64, u64) {
        let (total, success) = self.stats.take_window(local);
        let [seen_external, seen_local] = &mut self.seen;
        let seen = if local { seen_local } else { seen_external };
        let since = (success.wrapping_sub(seen.1), total.wrapping_sub(seen.0));
        *seen = (total, success);
        since
    }
}

/// What the admin page shows of a host.
pub const SHOWN: [(Count, &str); 8] = [
    (Count::CxActive, "cx_active"),
    (Count::CxConnectFail, "cx_connect_fail"),
    (Count::CxTotal, "cx_total"),
    (Count::RqActive, "rq_active"),
    (Count::RqError, "rq_error"),
    (Count::RqSuccess, "rq_success"),
    (Count::RqTimeout, "rq_timeout"),
    (Count::RqTotal, "rq_total"),
];
