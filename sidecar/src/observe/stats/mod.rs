//! Counters, gauges and histograms: one cell per metric and thread, added up when somebody asks.
//!
//! A metric is a number that indexes every thread's own shard, so counting is a load and a store on
//! a line no other thread writes. Names and Prometheus tags are resolved when the metric is made.
//! Rendering lives in `observe::prometheus` and the admin pages, what a histogram keeps in [`histogram`], names in [`scope`].

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

mod histogram;
mod scope;

use histogram::HistogramCells;
pub use histogram::HistogramSnapshot;
pub use scope::{LateCounters, Scope, labelled_counter, labelled_histogram};

/// Threads that may count: the main thread is shard 0, worker `n` is shard `n + 1`. Threads that
/// never called [`enter_worker`] share shard 0 (with atomic additions).
pub const MAX_SHARDS: usize = 65;
const CHUNK: usize = 1024;
const CHUNKS: usize = 1024;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// Makes this thread count in a shard of its own. `worker` is below [`MAX_SHARDS`] - 1.
pub fn enter_worker(worker: usize) {
    SHARD.with(|shard| shard.set((worker + 1).min(MAX_SHARDS - 1)));
}

type Cells = Box<[AtomicU64]>;

struct Shard {
    chunks: Box<[OnceLock<Cells>]>,
}

impl Shard {
    fn new() -> Self {
        Shard { chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() }
    }

    fn cell(&self, id: u32) -> Option<&AtomicU64> {
        let (chunk, index) = (id as usize / CHUNK, id as usize % CHUNK);
        let cells = self.chunks.get(chunk)?.get_or_init(|| (0..CHUNK).map(|_| AtomicU64::new(0)).collect());
        cells.get(index)
    }

    fn peek(&self, id: u32) -> Option<&AtomicU64> {
        self.chunks.get(id as usize / CHUNK)?.get()?.get(id as usize % CHUNK)
    }
}

/// What kind of metric an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric: its names and where its cells are.
pub struct Metric {
    /// Envoy's dotted name, e.g. `cluster.reviews.upstream_rq_total`.
    pub name: String,
    /// The dotted name without tag values, e.g. `cluster.upstream_rq_total`.
    pub tag_extracted_name: String,
    /// Prometheus labels, e.g. `envoy_cluster_name="reviews"`.
    pub tags: Vec<(String, String)>,
    pub kind: Kind,
    /// Printed in Prometheus' text as it is, without the `envoy_` prefix (`istio_requests_total`).
    pub standalone: bool,
    id: u32,
    histogram: Option<HistogramCells>,
}

impl Metric {
    /// The sum over all threads. A gauge may be negative for a moment while threads race.
    pub fn value(&self) -> u64 {
        let store = store();
        store.shards.iter().filter_map(|s| s.get()?.peek(self.id)).fold(0, |sum, c| sum.wrapping_add(c.load(Relaxed)))
    }

    /// Has it ever been written?
    pub fn used(&self) -> bool {
        match &self.histogram {
            Some(h) => h.snapshot().count > 0,
            None => store()
                .shards
                .iter()
                .any(|s| s.get().and_then(|s| s.peek(self.id + 1)).is_some_and(|c| c.load(Relaxed) > 0)),
        }
    }

    pub fn histogram(&self) -> Option<HistogramSnapshot> {
        self.histogram.as_ref().map(HistogramCells::snapshot)
    }

    fn reset(&self) {
        for shard in store().shards.iter().filter_map(|s| s.get()) {
            for id in [self.id, self.id + 1] {
                if let Some(cell) = shard.peek(id) {
                    cell.store(0, Relaxed);
                }
            }
        }
    }
}

/// All metrics of the process.
pub struct Store {
    shards: Box<[OnceLock<Shard>]>,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    by_name: HashMap<String, Weak<Metric>>,
    next: u32,
}

/// The process's store. Metrics live as long as somebody holds a handle.
pub fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| Store { shards: (0..MAX_SHARDS).map(|_| OnceLock::new()).collect(), index: Mutex::default() })
}

impl Store {
    fn metric(
        &self,
        kind: Kind,
        standalone: bool,
        name: String,
        extracted: String,
        tags: Vec<(String, String)>,
    ) -> Arc<Metric> {
        let mut index = self.index.lock();
        if let Some(metric) = index.by_name.get(&name).and_then(Weak::upgrade) {
            return metric;
        }
        let id = index.next;
        // Two cells a metric: the value, and whether it was ever written.
        index.next += 2;
        let metric = Arc::new(Metric {
            name: name.clone(),
            tag_extracted_name: extracted,
            tags,
            kind,
            standalone,
            id,
            histogram: (kind == Kind::Histogram).then(HistogramCells::new),
        });
        index.by_name.insert(name, Arc::downgrade(&metric));
        metric
    }

    /// All live metrics, sorted by name.
    pub fn metrics(&self) -> Vec<Arc<Metric>> {
        let mut index = self.index.lock();
        index.by_name.retain(|_, metric| metric.strong_count() > 0);
        let mut all: Vec<_> = index.by_name.values().filter_map(Weak::upgrade).collect();
        drop(index);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Sets every counter to 0 (`/reset_counters`); gauges and histograms stay.
    pub fn reset_counters(&self) {
        self.metrics().iter().filter(|m| m.kind == Kind::Counter).for_each(|m| m.reset());
    }

    #[inline]
    fn add(&self, id: u32, delta: u64) {
        let shard = SHARD.with(Cell::get);
        let Some(shard_cells) = self.shards.get(shard).map(|s| s.get_or_init(Shard::new)) else { return };
        let (Some(cell), Some(used)) = (shard_cells.cell(id), shard_cells.cell(id + 1)) else { return };
        if shard == 0 {
            cell.fetch_add(delta, Relaxed);
            used.store(1, Relaxed);
        } else {
            // The only writer of this shard is this thread.
            cell.store(cell.load(Relaxed).wrapping_add(delta), Relaxed);
            if used.load(Relaxed) == 0 {
                used.store(1, Relaxed);
            }
        }
    }
}

/// Counts up. Cloning shares the metric.
#[derive(Clone)]
pub struct Counter(Arc<Metric>);

impl Counter {
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    #[inline]
    pub fn add(&self, n: u64) {
        store().add(self.0.id, n);
    }

    pub fn value(&self) -> u64 {
        self.0.value()
    }
}

/// Goes up and down. Any thread may add and subtract; only the main thread may set.
#[derive(Clone)]
pub struct Gauge(Arc<Metric>);

impl Gauge {
    #[inline]
    pub fn inc(&self) {
        store().add(self.0.id, 1);
    }

    #[inline]
    pub fn dec(&self) {
        store().add(self.0.id, 1u64.wrapping_neg());
    }

    #[inline]
    pub fn add(&self, n: u64) {
        store().add(self.0.id, n);
    }

    #[inline]
    pub fn sub(&self, n: u64) {
        store().add(self.0.id, n.wrapping_neg());
    }

    /// Sets the sum over all threads to `value`.
    pub fn set(&self, value: u64) {
        store().add(self.0.id, value.wrapping_sub(self.0.value()));
    }

    pub fn value(&self) -> u64 {
        self.0.value()
    }
}

/// Records values (milliseconds unless the name says otherwise).
#[derive(Clone)]
pub struct Histogram(Arc<Metric>);

impl Histogram {
    #[inline]
    pub fn record(&self, value: u64) {
        if let Some(cells) = &self.0.histogram {
            cells.record(SHARD.with(Cell::get), value);
        }
    }

    pub fn snapshot(&self) -> Option<HistogramSnapshot> {
        self.0.histogram()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_threads_add_up() {
        let counter = Scope::cluster("adds_up").counter("upstream_rq_total");
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let counter = counter.clone();
                std::thread::spawn(move || {
                    enter_worker(n);
                    (0..1000).for_each(|_| counter.inc());
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        counter.add(5);
        assert_eq!(counter.value(), 3005);
    }

    #[test]
    fn gauges_fall_on_another_thread_than_they_rose_on() {
        let gauge = Scope::cluster("gauge").gauge("upstream_cx_active");
        gauge.add(3);
        let other = gauge.clone();
        std::thread::spawn(move || {
            enter_worker(4);
            other.dec();
        })
        .join()
        .unwrap();
        assert_eq!(gauge.value(), 2);
        gauge.set(7);
        assert_eq!(gauge.value(), 7);
    }

    #[test]
    fn a_metric_without_holders_is_gone() {
        let name = "cluster.gone.upstream_rq_total";
        let counter = Scope::cluster("gone").counter("upstream_rq_total");
        counter.inc();
        assert!(store().metrics().iter().any(|m| m.name == name));
        drop(counter);
        assert!(!store().metrics().iter().any(|m| m.name == name));
    }
}
