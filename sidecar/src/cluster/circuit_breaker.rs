//! How much a cluster may have under way at once. Each worker counts in a cache line of its own;
//! the others' counts are read only when a limit is near.
//! Source: `envoy.config.cluster.v3.CircuitBreakers`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Limits of one priority.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    pub max_connections: u32,
    pub max_pending_requests: u32,
    pub max_requests: u32,
    pub max_retries: u32,
    /// Share of active requests (percent) and the least number of retries that are always allowed.
    pub retry_budget: Option<(f64, u32)>,
}

impl Default for Thresholds {
    /// Envoy's defaults.
    fn default() -> Self {
        Thresholds {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Connections,
    Pending,
    Requests,
    Retries,
}

const KINDS: usize = 4;

/// One worker's counts, alone on their cache line.
#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU32; KINDS]);

/// A cluster's breakers.
pub struct CircuitBreakers {
    thresholds: [Thresholds; 2],
    counts: [Arc<Box<[Line]>>; 2],
}

impl CircuitBreakers {
    /// `thresholds` are the default and the high priority's; `workers` is at least 1.
    pub fn new(thresholds: [Thresholds; 2], workers: usize) -> Self {
        let lines = || Arc::new((0..workers.max(1)).map(|_| Line::default()).collect());
        CircuitBreakers { thresholds, counts: [lines(), lines()] }
    }

    /// The limits of a priority.
    pub fn thresholds(&self, high_priority: bool) -> &Thresholds {
        self.priority(high_priority).0
    }

    /// Takes one, if the limit allows it. `worker` is the caller's index.
    pub fn acquire(&self, worker: usize, high_priority: bool, what: Resource) -> Option<Permit> {
        let (thresholds, counts) = self.priority(high_priority);
        let limit = match what {
            Resource::Connections => thresholds.max_connections,
            Resource::Pending => thresholds.max_pending_requests,
            Resource::Requests => thresholds.max_requests,
            Resource::Retries => self.retry_limit(thresholds, counts),
        };
        let cell = counts.get(worker)?.0.get(what as usize)?;
        let own = cell.load(Relaxed);
        // While every worker stays below its part of the limit, nobody needs the others' counts.
        let part = limit / counts.len().max(1) as u32;
        if own >= part && sum(counts, what) >= limit {
            return None;
        }
        cell.store(own + 1, Relaxed);
        Some(Permit { counts: counts.clone(), worker, what })
    }

    /// How many are under way over all workers.
    pub fn active(&self, high_priority: bool, what: Resource) -> u32 {
        sum(self.priority(high_priority).1, what)
    }

    fn retry_limit(&self, thresholds: &Thresholds, counts: &[Line]) -> u32 {
        match thresholds.retry_budget {
            None => thresholds.max_retries,
            Some((percent, least)) => {
                let active = sum(counts, Resource::Requests) + sum(counts, Resource::Pending);
                ((f64::from(active) * percent / 100.0) as u32).max(least)
            }
        }
    }

    fn priority(&self, high: bool) -> (&Thresholds, &Arc<Box<[Line]>>) {
        let ([default, important], [plain, urgent]) = (&self.thresholds, &self.counts);
        if high { (important, urgent) } else { (default, plain) }
    }
}

fn sum(counts: &[Line], what: Resource) -> u32 {
    counts.iter().filter_map(|line| line.0.get(what as usize)).map(|c| c.load(Relaxed)).sum()
}

/// Counts until it is dropped, on the worker that took it.
pub struct Permit {
    counts: Arc<Box<[Line]>>,
    worker: usize,
    what: Resource,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(cell) = self.counts.get(self.worker).and_then(|line| line.0.get(self.what as usize)) {
            cell.store(cell.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_over_all_workers() {
        let thresholds = Thresholds { max_requests: 3, ..Thresholds::default() };
        let breakers = CircuitBreakers::new([thresholds; 2], 2);
        let take = |worker| breakers.acquire(worker, false, Resource::Requests);
        let held: Vec<_> = [0, 1, 0].map(|w| take(w).unwrap()).into();
        assert!(take(0).is_none() && take(1).is_none());
        assert!(breakers.acquire(0, true, Resource::Requests).is_some());
        drop(held);
        assert!(take(1).is_some());
    }

    #[test]
    fn budgets_follow_the_load() {
        let budget = Thresholds { retry_budget: Some((20.0, 1)), ..Thresholds::default() };
        let breakers = CircuitBreakers::new([budget; 2], 1);
        let retry = || breakers.acquire(0, false, Resource::Retries);
        let first = retry().unwrap();
        assert!(retry().is_none());
        let _load: Vec<_> = (0..10).map(|_| breakers.acquire(0, false, Resource::Requests).unwrap()).collect();
        assert!(retry().is_some());
        drop(first);
    }
}
