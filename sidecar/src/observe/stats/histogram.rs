//! What a histogram keeps: bins for each thread, as circllhist has them, added up when somebody asks.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::MAX_SHARDS;

/// Bins of two significant decimal digits, as circllhist's: 0, 1..=9, then 10..=99 × 10^e.
const DECADES: usize = 9;
const BINS: usize = 10 + 90 * DECADES;

fn bin_of(value: u64) -> usize {
    if value < 10 {
        return value as usize;
    }
    let (mut v, mut decade) = (value, 0);
    while v >= 100 {
        v /= 10;
        decade += 1;
    }
    if decade >= DECADES { BINS - 1 } else { 10 + decade * 90 + (v as usize - 10) }
}

/// The lower and upper bound of a bin.
fn bounds_of(bin: usize) -> (u64, u64) {
    if bin < 10 {
        return (bin as u64, bin as u64 + 1);
    }
    let (decade, digits) = ((bin - 10) / 90, (bin - 10) % 90 + 10);
    let unit = 10u64.pow(decade as u32);
    (digits as u64 * unit, (digits as u64 + 1) * unit)
}

pub(super) struct HistogramCells {
    shards: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

/// A histogram's content over all threads.
#[derive(Clone, Debug, Default)]
pub struct HistogramSnapshot {
    pub count: u64,
    pub sum: u64,
    /// (lower bound, upper bound, count) of the bins that hold something, ascending.
    pub bins: Vec<(u64, u64, u64)>,
}

impl HistogramSnapshot {
    /// How many values were at most `bound`; a bin counts when it lies wholly below.
    pub fn at_most(&self, bound: f64) -> u64 {
        self.bins.iter().filter(|(low, _, _)| (*low as f64) < bound).map(|b| b.2).sum()
    }

    /// The value below which a share `q` (0 to 1) of all values lies, interpolated inside its bin.
    pub fn quantile(&self, q: f64) -> f64 {
        let target = q * self.count as f64;
        let mut seen = 0.0;
        for (low, high, n) in &self.bins {
            let n = *n as f64;
            if seen + n >= target {
                let inside = if n > 0.0 { (target - seen).max(0.0) / n } else { 0.0 };
                return *low as f64 + (*high - *low) as f64 * inside;
            }
            seen += n;
        }
        self.bins.last().map_or(0.0, |b| b.1 as f64)
    }
}

impl HistogramCells {
    pub(super) fn new() -> Self {
        HistogramCells { shards: (0..MAX_SHARDS).map(|_| OnceLock::new()).collect() }
    }

    pub(super) fn record(&self, shard: usize, value: u64) {
        let Some(cells) = self.shards.get(shard) else { return };
        // The last cell is the sum.
        let cells = cells.get_or_init(|| (0..=BINS).map(|_| AtomicU64::new(0)).collect());
        if let (Some(bin), Some(sum)) = (cells.get(bin_of(value)), cells.get(BINS)) {
            if shard == 0 {
                bin.fetch_add(1, Relaxed);
                sum.fetch_add(value, Relaxed);
            } else {
                bin.store(bin.load(Relaxed) + 1, Relaxed);
                sum.store(sum.load(Relaxed).wrapping_add(value), Relaxed);
            }
        }
    }

    pub(super) fn snapshot(&self) -> HistogramSnapshot {
        let mut totals = vec![0u64; BINS + 1];
        for cells in self.shards.iter().filter_map(OnceLock::get) {
            for (total, cell) in totals.iter_mut().zip(cells.iter()) {
                *total = total.wrapping_add(cell.load(Relaxed));
            }
        }
        let sum = totals.pop().unwrap_or(0);
        let bins: Vec<_> = totals
            .iter()
            .enumerate()
            .filter(|(_, n)| **n > 0)
            .map(|(bin, n)| {
                let (low, high) = bounds_of(bin);
                (low, high, *n)
            })
            .collect();
        HistogramSnapshot { count: bins.iter().map(|b| b.2).sum(), sum, bins }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_have_two_digits() {
        for (value, low, high) in [(0, 0, 1), (9, 9, 10), (10, 10, 11), (123, 120, 130), (99_999, 99_000, 100_000)] {
            assert_eq!(bounds_of(bin_of(value)), (low, high), "{value}");
        }
    }
}
