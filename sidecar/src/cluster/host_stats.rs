//! What happens at one host, counted by each worker in a cache line of its own, and the failures in a row that
//! outlier detection looks for. Outlives the host's entry in one list, as long as the address stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::outlier::{Cause, OutlierRules};

/// One count. Source: Envoy's `HostStats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    CxTotal,
    CxActive,
    CxConnectFail,
    RqTotal,
    RqActive,
    RqSuccess,
    RqError,
    RqTimeout,
    /// Answers of upstream since the last look, and those that were no 5xx.
    WindowTotal,
    WindowSuccess,
    /// The same with failures to connect or to get an answer at all.
    WindowLocalTotal,
    WindowLocalSuccess,
}

const COUNTS: usize = 12;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([AtomicU64; COUNTS]);

/// A host's counts.
#[derive(Debug, Default)]
pub struct HostStats {
    lines: Box<[Line]>,
    consecutive_5xx: AtomicU32,
    consecutive_gateway: AtomicU32,
    consecutive_local: AtomicU32,
}

/// How a try at a host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    /// No connection, no answer in time, or a broken one.
    Local,
}

impl HostStats {
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(HostStats { lines: (0..workers).map(|_| Line::default()).collect(), ..HostStats::default() })
    }

    fn cell(&self, worker: usize, count: Count) -> Option<&AtomicU64> {
        self.lines.get(worker)?.0.get(count as usize)
    }

    /// Only worker `worker` calls this.
    pub fn inc(&self, worker: usize, count: Count) {
        if let Some(cell) = self.cell(worker, count) {
            cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    /// As [`inc`](Self::inc).
    pub fn dec(&self, worker: usize, count: Count) {
        if let Some(cell) = self.cell(worker, count) {
            cell.store(cell.load(Relaxed).wrapping_sub(1), Relaxed);
        }
    }

    /// Over all workers.
    pub fn sum(&self, count: Count) -> u64 {
        self.lines.iter().filter_map(|line| line.0.get(count as usize)).fold(0, |n, c| n.wrapping_add(c.load(Relaxed)))
    }

    /// What a run of failures asks for, if this outcome completes one. Nothing is written while all goes well.
    pub fn report(&self, worker: usize, outcome: Outcome, rules: &OutlierRules) -> Option<Cause> {
        let success = matches!(outcome, Outcome::Status(status) if status < 500);
        let external = matches!(outcome, Outcome::Status(_)) || !rules.split_local;
        if external {
            self.inc(worker, Count::WindowTotal);
            if success {
                self.inc(worker, Count::WindowSuccess);
            }
        }
        if rules.split_local {
            self.inc(worker, Count::WindowLocalTotal);
            if outcome != Outcome::Local {
                self.inc(worker, Count::WindowLocalSuccess);
                clear(&self.consecutive_local);
            } else {
                return reached(&self.consecutive_local, rules.consecutive_local).then_some(Cause::LocalOrigin);
            }
        }
        if success {
            clear(&self.consecutive_5xx);
            clear(&self.consecutive_gateway);
            return None;
        }
        let gateway = matches!(outcome, Outcome::Local | Outcome::Status(502..=504));
        if !gateway {
            clear(&self.consecutive_gateway);
        } else if reached(&self.consecutive_gateway, rules.consecutive_gateway) {
            return Some(Cause::GatewayFailure);
        }
        reached(&self.consecutive_5xx, rules.consecutive_5xx).then_some(Cause::Consecutive5xx)
    }

    /// Runs of failures begin anew.
    pub fn forgive(&self) {
        [&self.consecutive_5xx, &self.consecutive_gateway, &self.consecutive_local].into_iter().for_each(clear);
    }

    /// Total and successes since the last look.
    pub fn take_window(&self, local: bool) -> (u64, u64) {
        let (total, success) = if local {
            (Count::WindowLocalTotal, Count::WindowLocalSuccess)
        } else {
            (Count::WindowTotal, Count::WindowSuccess)
        };
        (self.sum(total), self.sum(success))
    }
}

fn clear(count: &AtomicU32) {
    if count.load(Relaxed) != 0 {
        count.store(0, Relaxed);
    }
}

/// True on the failure that makes the run long enough, and again after as many more.
fn reached(count: &AtomicU32, threshold: u32) -> bool {
    let now = count.fetch_add(1, Relaxed) + 1;
    threshold > 0 && now.is_multiple_of(threshold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_failures() {
        let rules = OutlierRules { consecutive_5xx: 3, consecutive_gateway: 2, ..OutlierRules::default() };
        let stats = HostStats::new(1);
        let reported: Vec<_> = [500, 503, 200, 500, 500, 500, 503, 503]
            .map(|status| stats.report(0, Outcome::Status(status), &rules))
            .into();
        let five = Some(Cause::Consecutive5xx);
        assert_eq!(reported, [None, None, None, None, None, five, None, Some(Cause::GatewayFailure)]);
        assert_eq!(stats.take_window(false), (8, 1));
    }
}
