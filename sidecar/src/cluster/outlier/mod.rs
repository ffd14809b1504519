//! Outlier detection: which hosts behave so badly that they get no requests for a while. Runs of failures are told by
//! the workers at once; rates are compared at each interval. Pure: time and dice are given.
//! Source: `envoy.config.cluster.v3.OutlierDetection`, Envoy's `DetectorImpl`.

pub mod config;

use std::time::{Duration, Instant};

use crate::observe::stats::{Counter, Gauge, Scope};

/// A cluster's rules; shares are percents.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierRules {
    pub consecutive_5xx: u32,
    pub consecutive_gateway: u32,
    pub consecutive_local: u32,
    /// Failures to connect count by themselves.
    pub split_local: bool,
    pub interval: Duration,
    pub base_ejection: Duration,
    pub max_ejection: Duration,
    pub max_jitter: Duration,
    pub max_ejected: u32,
    /// One host may always be ejected, whatever share it is.
    pub always_one: bool,
    pub enforce_5xx: u32,
    pub enforce_gateway: u32,
    pub enforce_local: u32,
    pub success_rate: RateRule,
    pub local_success_rate: u32,
    /// In thousandths of a standard deviation.
    pub stdev_factor: u32,
    pub failure_percentage: RateRule,
    pub local_failure_percentage: u32,
    pub failure_threshold: u32,
    /// A check that succeeds brings an ejected host back.
    pub checks_forgive: bool,
}

/// When a rate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateRule {
    pub enforce: u32,
    pub minimum_hosts: u32,
    pub request_volume: u32,
}

impl Default for OutlierRules {
    fn default() -> Self {
        OutlierRules {
            consecutive_5xx: 5,
            consecutive_gateway: 5,
            consecutive_local: 5,
            split_local: false,
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_jitter: Duration::ZERO,
            max_ejected: 10,
            always_one: false,
            enforce_5xx: 100,
            enforce_gateway: 0,
            enforce_local: 100,
            success_rate: RateRule { enforce: 100, minimum_hosts: 5, request_volume: 100 },
            local_success_rate: 100,
            stdev_factor: 1900,
            failure_percentage: RateRule { enforce: 0, minimum_hosts: 5, request_volume: 50 },
            local_failure_percentage: 0,
            failure_threshold: 85,
            checks_forgive: true,
        }
    }
}

/// Why a host is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Consecutive5xx,
    GatewayFailure,
    LocalOrigin,
    SuccessRate,
    LocalSuccessRate,
    FailurePercentage,
    LocalFailurePercentage,
}

impl Cause {
    const ALL: [(Cause, &'static str); 7] = [
        (Cause::Consecutive5xx, "consecutive_5xx"),
        (Cause::GatewayFailure, "consecutive_gateway_failure"),
        (Cause::LocalOrigin, "consecutive_local_origin_failure"),
        (Cause::SuccessRate, "success_rate"),
        (Cause::LocalSuccessRate, "local_origin_success_rate"),
        (Cause::FailurePercentage, "failure_percentage"),
        (Cause::LocalFailurePercentage, "local_origin_failure_percentage"),
    ];

    fn enforced(self, rules: &OutlierRules) -> u32 {
        match self {
            Cause::Consecutive5xx => rules.enforce_5xx,
            Cause::GatewayFailure => rules.enforce_gateway,
            Cause::LocalOrigin => rules.enforce_local,
            Cause::SuccessRate => rules.success_rate.enforce,
            Cause::LocalSuccessRate => rules.local_success_rate,
            Cause::FailurePercentage => rules.failure_percentage.enforce,
            Cause::LocalFailurePercentage => rules.local_failure_percentage,
        }
    }
}

/// Handles to `cluster.NAME.outlier_detection.*`.
pub struct OutlierStats {
    pub active: Gauge,
    enforced: Counter,
    overflow: Counter,
    detected: Vec<(Cause, Counter, Counter)>,
}

impl OutlierStats {
    pub fn new(scope: &Scope) -> Self {
        let scope = scope.child("outlier_detection");
        OutlierStats {
            active: scope.gauge("ejections_active"),
            enforced: scope.counter("ejections_enforced_total"),
            overflow: scope.counter("ejections_overflow"),
            detected: Cause::ALL
                .into_iter()
                .map(|(cause, name)| {
                    let detected = scope.counter(&format!("ejections_detected_{name}"));
                    (cause, detected, scope.counter(&format!("ejections_enforced_{name}")))
                })
                .collect(),
        }
    }

    fn counters(&self, cause: Cause) -> Option<(&Counter, &Counter)> {
        self.detected.iter().find(|(c, ..)| *c == cause).map(|(_, detected, enforced)| (detected, enforced))
    }
}

/// One host's ejections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ejection {
    /// Until when it gets nothing.
    pub until: Option<Instant>,
    times: u32,
}

impl Ejection {
    pub fn is_active(&self) -> bool {
        self.until.is_some()
    }

    /// Ejects the host, longer each time.
    fn eject(&mut self, rules: &OutlierRules, now: Instant, dice: u64) {
        self.times += 1;
        let most = rules.max_ejection.max(rules.base_ejection);
        let jitter = rules.max_jitter.mul_f64((dice % 1000) as f64 / 1000.0);
        self.until = Some(now + rules.base_ejection.saturating_mul(self.times).min(most) + jitter);
    }

    /// True if the host is back. A host that behaved through a whole interval is forgiven one ejection.
    pub fn look(&mut self, now: Instant) -> bool {
        match self.until {
            Some(until) if until <= now => {
                self.until = None;
                true
            }
            Some(_) => false,
            None => {
                self.times = self.times.saturating_sub(1);
                false
            }
        }
    }
}

/// Decides on one host; true if it is ejected now. `ejected` of `total` hosts are out already.
pub fn judge(
    ejection: &mut Ejection,
    cause: Cause,
    (ejected, total): (usize, usize),
    rules: &OutlierRules,
    stats: &OutlierStats,
    (now, dice): (Instant, u64),
) -> bool {
    if ejection.is_active() {
        return false;
    }
    let counters = stats.counters(cause);
    counters.iter().for_each(|(detected, _)| detected.inc());
    let share = (ejected + 1) as u64 * 100;
    let allowed = share <= u64::from(rules.max_ejected) * total as u64 || (ejected == 0 && rules.always_one);
    // Envoy allows the first ejection whenever fewer than the share are out before it.
    let below = (ejected as u64) * 100 < u64::from(rules.max_ejected) * total as u64;
    let first = below && ejected == 0;
    if !allowed && !first {
        stats.overflow.inc();
        return false;
    }
    if dice % 100 >= u64::from(cause.enforced(rules)) {
        return false;
    }
    ejection.eject(rules, now, dice);
    stats.enforced.inc();
    counters.iter().for_each(|(_, enforced)| enforced.inc());
    stats.active.inc();
    true
}

/// Which hosts' rates are too low: each with its successes and total of the last interval.
pub fn outliers(rates: &[(u64, u64)], rules: &OutlierRules, local: bool) -> Vec<(usize, Cause)> {
    let mut found = Vec::new();
    let (low, failing) = if local {
        (Cause::LocalSuccessRate, Cause::LocalFailurePercentage)
    } else {
        (Cause::SuccessRate, Cause::FailurePercentage)
    };
    let looked_at = |rule: RateRule| -> Vec<(usize, f64)> {
        let busy = rates.iter().enumerate().filter(|(_, (_, total))| *total >= u64::from(rule.request_volume.max(1)));
        let all: Vec<_> = busy.map(|(at, (success, total))| (at, *success as f64 * 100.0 / *total as f64)).collect();
        if all.len() >= rule.minimum_hosts.max(1) as usize { all } else { Vec::new() }
    };
    let rated = looked_at(rules.success_rate);
    if !rated.is_empty() {
        let mean = rated.iter().map(|(_, rate)| rate).sum::<f64>() / rated.len() as f64;
        let variance = rated.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / rated.len() as f64;
        let least = mean - variance.sqrt() * f64::from(rules.stdev_factor) / 1000.0;
        found.extend(rated.iter().filter(|(_, rate)| *rate < least).map(|(at, _)| (*at, low)));
    }
    let failed = looked_at(rules.failure_percentage);
    let too_many = |rate: f64| 100.0 - rate >= f64::from(rules.failure_threshold);
    found.extend(failed.iter().filter(|(_, rate)| too_many(*rate)).map(|(at, _)| (*at, failing)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ejections_grow_and_are_bounded() {
        let rules = OutlierRules { max_ejected: 50, ..OutlierRules::default() };
        let stats = OutlierStats::new(&Scope::cluster("outlier-test"));
        let now = Instant::now();
        let mut first = Ejection::default();
        assert!(judge(&mut first, Cause::Consecutive5xx, (0, 2), &rules, &stats, (now, 0)));
        assert_eq!(first.until, Some(now + rules.base_ejection));
        assert!(!judge(&mut Ejection::default(), Cause::Consecutive5xx, (1, 2), &rules, &stats, (now, 0)));
        assert!(!judge(&mut Ejection::default(), Cause::GatewayFailure, (0, 2), &rules, &stats, (now, 0)));
        let later = now + rules.base_ejection;
        assert!(first.look(later));
        assert!(judge(&mut first, Cause::Consecutive5xx, (0, 2), &rules, &stats, (later, 0)));
        assert_eq!(first.until, Some(later + rules.base_ejection * 2));
    }

    #[test]
    fn rates_are_compared() {
        let rules = OutlierRules::default();
        let rates = [(100, 100), (99, 100), (100, 100), (100, 100), (98, 100), (20, 100)];
        assert_eq!(outliers(&rates, &rules, false), [(5, Cause::SuccessRate)]);
        assert_eq!(outliers(&rates[..4], &rules, false), []);
        let failing = [(0, 60), (10, 60), (60, 60), (60, 60), (60, 60)];
        assert_eq!(outliers(&failing, &rules, true), [(0, Cause::LocalFailurePercentage)]);
    }
}
