//! What was counted: how many requests there were from whom to whom, and how long they took. Not which resource they are told of.

use std::collections::BTreeMap;

use api::Key;
use serde_json::{Value, json};

/// Which way requests went, as the proxy that counted them saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// They came in, from a peer.
    From,
    /// They went out, to a peer.
    To,
}

/// What a pod exchanged with one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// The pod whose proxy counted.
    pub pod: Key,
    /// Which way.
    pub direction: Direction,
    /// The peer's workload; empty where it is not known.
    pub peer: Key,
    /// The Service that was called.
    pub service: Key,
}

/// How many requests there were, and how long they took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Answered, and not by a failure of the server's.
    pub success: u64,
    /// Answered with 5xx or not at all.
    pub failure: u64,
    /// How many took at most so many microseconds.
    pub within: BTreeMap<u64, u64>,
}

impl Figures {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.success += other.success;
        self.failure += other.failure;
        for (limit, count) in &other.within {
            *self.within.entry(*limit).or_default() += count;
        }
    }

    /// What came after `before`; a proxy that began anew counts from nothing.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        if self.success < before.success || self.failure < before.failure {
            return self.clone();
        }
        let earlier = |limit: &u64| before.within.get(limit).copied().unwrap_or(0);
        Self {
            success: self.success - before.success,
            failure: self.failure - before.failure,
            within: self.within.iter().map(|(limit, n)| (*limit, n.saturating_sub(earlier(limit)))).collect(),
        }
    }

    /// The latency that a share of the requests kept within, in microseconds. Source: Prometheus' `histogram_quantile`.
    fn quantile(&self, share: f64) -> u64 {
        let total = self.within.values().next_back().copied().unwrap_or(0);
        let rank = share * total as f64;
        let (mut below, mut limit_below) = (0, 0);
        for (limit, count) in &self.within {
            if *count as f64 >= rank && total > 0 {
                // Beyond the last limit nothing is known.
                if *limit == u64::MAX {
                    return limit_below;
                }
                let inside = (count - below).max(1) as f64;
                let part = (rank - below as f64).max(0.0) / inside;
                return limit_below + ((limit - limit_below) as f64 * part) as u64;
            }
            (below, limit_below) = (*count, *limit);
        }
        0
    }

    pub(super) fn metrics(&self) -> Value {
        let latency =
            |name: &str, share: f64| json!({"name": name, "unit": "seconds", "value": quantity(self.quantile(share))});
        json!([
            latency("p99_response_latency", 0.99),
            latency("p90_response_latency", 0.9),
            latency("p50_response_latency", 0.5),
            {"name": "success_count", "value": self.success.to_string()},
            {"name": "failure_count", "value": self.failure.to_string()},
        ])
    }
}

/// Seconds as a quantity: `10m` is ten milliseconds.
fn quantity(micros: u64) -> String {
    if micros.is_multiple_of(1000) { format!("{}m", micros / 1000) } else { format!("{micros}u") }
}

/// The figures of the last window, by flow.
pub type Traffic = BTreeMap<Flow, Figures>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let figures = |success, failure| {
            let all = success + failure;
            Figures { success, failure, within: [(1000, all / 2), (10_000, all), (u64::MAX, all)].into() }
        };
        assert_eq!(figures(90, 10).quantile(0.5), 1000);
        assert_eq!(figures(90, 10).quantile(0.75), 5500);
        assert_eq!(Figures::default().quantile(0.99), 0);
        assert_eq!(figures(90, 10).since(&figures(40, 10)).success, 50);
        assert_eq!(quantity(10_000), "10m");
        assert_eq!(quantity(5500), "5500u");
    }
}
