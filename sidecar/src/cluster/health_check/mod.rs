//! Active health checks: each host of a cluster is asked, at intervals, by a task of its own on the main thread. What
//! an answer means for the host is decided here; who hears of it is `assemble`'s affair.
//! Source: `envoy.config.core.v3.HealthCheck`, Envoy's `HealthCheckerImplBase`.

mod ask;
pub mod config;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};

use super::{Cluster, Host};
use crate::observe::stats::{Counter, Gauge, Scope};
use crate::tls::UpstreamTls;

/// A compiled check.
#[derive(Clone)]
pub struct HealthCheck {
    pub timeout: Duration,
    pub intervals: Intervals,
    pub initial_jitter: Duration,
    pub jitter: Duration,
    /// Percent of the interval.
    pub jitter_percent: u32,
    /// Failures in a row that take a healthy host out.
    pub unhealthy_threshold: u32,
    /// Successes in a row that bring it back.
    pub healthy_threshold: u32,
    pub alt_port: Option<u16>,
    pub reuse_connection: bool,
    pub kind: Kind,
}

/// How long to wait after which result.
#[derive(Clone, Copy, Debug)]
pub struct Intervals {
    pub healthy: Duration,
    pub unhealthy: Duration,
    pub to_healthy: Duration,
    pub to_unhealthy: Duration,
    /// While the cluster has had no connection.
    pub no_traffic: Duration,
    pub no_traffic_healthy: Duration,
}

/// What is asked.
#[derive(Clone)]
pub enum Kind {
    Http(HttpCheck),
    Tcp {
        send: Vec<u8>,
        /// Must come in this order.
        receive: Vec<Vec<u8>>,
    },
    Grpc {
        service: String,
        authority: String,
    },
}

#[derive(Clone)]
pub struct HttpCheck {
    pub method: Method,
    /// Empty: the cluster's name.
    pub host: String,
    pub path: String,
    pub headers: HeaderMap,
    pub send: Vec<u8>,
    /// From, up to and without. 200 alone by default.
    pub expected: Vec<(u16, u16)>,
    /// Count towards the threshold instead of taking the host out at once.
    pub retriable: Vec<(u16, u16)>,
    pub http2: bool,
}

/// What one question came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Good,
    Degraded,
    /// The host says that it is not well.
    Bad,
    /// A status that counts towards the threshold.
    Retriable,
    /// No answer in time, or no connection.
    Silent,
}

/// What is known of a host's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not asked yet: it gets nothing until it has answered well.
    Pending,
    Healthy,
    Degraded,
    Failed,
}

/// A host's answers so far.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub verdict: Verdict,
    good: u32,
    bad: u32,
}

impl Default for Record {
    fn default() -> Self {
        Record { verdict: Verdict::Pending, good: 0, bad: 0 }
    }
}

impl Record {
    /// Takes an answer; true if the verdict changed.
    pub fn take(&mut self, answer: Answer, check: &HealthCheck) -> bool {
        let before = self.verdict;
        match answer {
            Answer::Good | Answer::Degraded => {
                self.bad = 0;
                self.good += 1;
                let known = matches!(before, Verdict::Healthy | Verdict::Degraded);
                // The first answer of all decides at once.
                if known || before == Verdict::Pending || self.good >= check.healthy_threshold {
                    self.verdict = if answer == Answer::Degraded { Verdict::Degraded } else { Verdict::Healthy };
                }
            }
            Answer::Bad | Answer::Retriable | Answer::Silent => {
                self.good = 0;
                self.bad += 1;
                let known = matches!(before, Verdict::Healthy | Verdict::Degraded);
                if !known || answer == Answer::Bad || self.bad >= check.unhealthy_threshold {
                    self.verdict = Verdict::Failed;
                }
            }
        }
        self.verdict != before
    }
}

/// Handles to `cluster.NAME.health_check.*`.
#[derive(Clone)]
pub struct HealthStats {
    pub attempt: Counter,
    pub success: Counter,
    pub failure: Counter,
    pub network_failure: Counter,
    pub healthy: Gauge,
    pub degraded: Gauge,
}

impl HealthStats {
    pub fn new(scope: &Scope) -> Self {
        let scope = scope.child("health_check");
        HealthStats {
            attempt: scope.counter("attempt"),
            success: scope.counter("success"),
            failure: scope.counter("failure"),
            network_failure: scope.counter("network_failure"),
            healthy: scope.gauge("healthy"),
            degraded: scope.gauge("degraded"),
        }
    }

    fn count(&self, answer: Answer) {
        match answer {
            Answer::Good | Answer::Degraded => self.success.inc(),
            Answer::Bad | Answer::Retriable => self.failure.inc(),
            Answer::Silent => {
                self.failure.inc();
                self.network_failure.inc();
            }
        }
    }
}

/// Asks one host until the task is dropped; `tell` hears each answer and returns the host's verdict.
pub async fn watch(
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    check: HealthCheck,
    stats: HealthStats,
    tell: impl Fn(Answer),
) {
    let target = target(&host, &check);
    let mut record = Record::default();
    let mut asker = ask::Asker::new(cluster.clone(), target, check.clone());
    tokio::time::sleep(check.initial_jitter.mul_f64(fastrand::f64())).await;
    loop {
        stats.attempt.inc();
        let answer = match tokio::time::timeout(check.timeout, asker.ask()).await {
            Ok(answer) => answer,
            Err(_) => {
                asker.hang_up();
                Answer::Silent
            }
        };
        stats.count(answer);
        let before = record.verdict;
        record.take(answer, &check);
        tell(answer);
        let idle = cluster.stats.pool.cx_total.value() == 0;
        tokio::time::sleep(wait(&check, before, record.verdict, idle)).await;
    }
}

/// The host as it is asked: maybe at another port or address.
fn target(host: &Arc<Host>, check: &HealthCheck) -> Arc<Host> {
    let mut target = Host::clone(host);
    if let Some(address) = &host.check.address {
        target.address = address.clone();
    }
    if let (Some(port), crate::net::Address::Ip(address)) = (host.check.port.or(check.alt_port), &mut target.address) {
        address.set_port(port);
    }
    Arc::new(target)
}

fn wait(check: &HealthCheck, before: Verdict, now: Verdict, idle: bool) -> Duration {
    let well = |verdict| matches!(verdict, Verdict::Healthy | Verdict::Degraded);
    let intervals = &check.intervals;
    let base = match (idle, well(before), well(now)) {
        (true, _, true) => intervals.no_traffic_healthy,
        (true, _, false) => intervals.no_traffic,
        (false, true, true) => intervals.healthy,
        (false, false, true) => intervals.to_healthy,
        (false, true, false) => intervals.to_unhealthy,
        (false, false, false) => intervals.unhealthy,
    };
    let part = base.mul_f64(f64::from(check.jitter_percent) / 100.0 * fastrand::f64());
    base + part + check.jitter.mul_f64(fastrand::f64())
}

/// A context that checks go out with instead of the cluster's own; `None`: the cluster's.
pub type CheckTls = Option<Arc<UpstreamTls>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_verdicts() {
        let check = config::check_for_tests(2, 3);
        let mut record = Record::default();
        let mut verdicts = Vec::new();
        for answer in [
            Answer::Good,
            Answer::Silent,
            Answer::Silent,
            Answer::Silent,
            Answer::Good,
            Answer::Good,
            Answer::Bad,
            Answer::Degraded,
            Answer::Degraded,
        ] {
            record.take(answer, &check);
            verdicts.push(record.verdict);
        }
        use Verdict::{Degraded, Failed, Healthy};
        assert_eq!(verdicts, [Healthy, Healthy, Healthy, Failed, Failed, Healthy, Failed, Failed, Degraded]);
    }
}
