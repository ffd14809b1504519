//! Counters, gauges and histograms: one cell per metric and thread, added up when somebody asks.
//!
//! A metric is a number that indexes every thread's own shard, so counting is a load and a store on
//! a line no other thread writes. Names and Prometheus tags are resolved when the metric is made.
//! Rendering lives in `observe::prometheus` and the admin pages.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

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

struct HistogramCells {
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
    fn new() -> Self {
        HistogramCells { shards: (0..MAX_SHARDS).map(|_| OnceLock::new()).collect() }
    }

    fn record(&self, shard: usize, value: u64) {
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

    fn snapshot(&self) -> HistogramSnapshot {
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

/// A prefix of names with its tags: `cluster.reviews.` with `envoy_cluster_name="reviews"`.
#[derive(Clone, Default)]
pub struct Scope {
    name: String,
    extracted: String,
    tags: Vec<(String, String)>,
}

impl Scope {
    pub fn root() -> Self {
        Scope::default()
    }

    /// `cluster.NAME.`
    pub fn cluster(name: &str) -> Self {
        Scope::root().child("cluster").tag("envoy_cluster_name", name)
    }

    /// `http.STAT_PREFIX.`
    pub fn http(stat_prefix: &str) -> Self {
        Scope::root().child("http").tag("envoy_http_conn_manager_prefix", stat_prefix)
    }

    /// `listener.ADDRESS.`; characters of an address that a name can't have become `_`.
    pub fn listener(address: &str) -> Self {
        Scope::root().child("listener").tag("envoy_listener_address", &address.replace([':', '/'], "_"))
    }

    /// One more word in the name.
    #[must_use]
    pub fn child(&self, word: &str) -> Self {
        let mut scope = self.clone();
        scope.name = format!("{}{word}.", self.name);
        scope.extracted = format!("{}{word}.", self.extracted);
        scope
    }

    /// One more word that is a tag's value: in the dotted name, but not in the Prometheus name.
    #[must_use]
    pub fn tag(&self, tag: &str, value: &str) -> Self {
        let mut scope = self.clone();
        scope.name = format!("{}{value}.", self.name);
        scope.tags.push((tag.to_owned(), value.to_owned()));
        scope
    }

    fn make(&self, kind: Kind, name: &str) -> Arc<Metric> {
        let (full, extracted) = (format!("{}{name}", self.name), format!("{}{name}", self.extracted));
        store().metric(kind, false, full, extracted, self.tags.clone())
    }

    pub fn counter(&self, name: &str) -> Counter {
        Counter(self.make(Kind::Counter, name))
    }

    pub fn gauge(&self, name: &str) -> Gauge {
        Gauge(self.make(Kind::Gauge, name))
    }

    pub fn histogram(&self, name: &str) -> Histogram {
        Histogram(self.make(Kind::Histogram, name))
    }

    /// A counter whose last word is `dotted` in Envoy's name, and `extracted` plus a tag for Prometheus
    /// (`upstream_rq_200` is `upstream_rq` with `envoy_response_code="200"`).
    pub fn tagged_counter(&self, dotted: &str, extracted: &str, tag: &str, value: &str) -> Counter {
        // Envoy prints this tag before the scope's.
        let mut tags = vec![(tag.to_owned(), value.to_owned())];
        tags.extend(self.tags.iter().cloned());
        let (full, extracted) = (format!("{}{dotted}", self.name), format!("{}{extracted}", self.extracted));
        Counter(store().metric(Kind::Counter, false, full, extracted, tags))
    }
}

/// Counters whose names are known only when they are first needed. Kept as long as this is.
pub struct LateCounters {
    scope: Scope,
    known: Mutex<HashMap<String, Counter>>,
}

impl LateCounters {
    pub fn new(scope: Scope) -> Self {
        LateCounters { scope, known: Mutex::default() }
    }

    /// As [`Scope::counter`].
    pub fn plain(&self, name: &str) -> Counter {
        self.kept(name, || self.scope.counter(name))
    }

    fn kept(&self, name: &str, make: impl FnOnce() -> Counter) -> Counter {
        let mut known = self.known.lock();
        if let Some(counter) = known.get(name) {
            return counter.clone();
        }
        let counter = make();
        known.insert(name.to_owned(), counter.clone());
        counter
    }

    /// As [`Scope::tagged_counter`].
    pub fn tagged(&self, dotted: &str, extracted: &str, tag: &str, value: &str) -> Counter {
        self.kept(dotted, || self.scope.tagged_counter(dotted, extracted, tag, value))
    }

    /// Counts a status as a code and as a class.
    pub fn count_status(&self, status: u16) {
        let (class, code) = ((status / 100).to_string(), status.to_string());
        self.tagged(&format!("upstream_rq_{code}"), "upstream_rq", "envoy_response_code", &code).inc();
        self.tagged(&format!("upstream_rq_{class}xx"), "upstream_rq_xx", "envoy_response_code_class", &class).inc();
    }
}

/// A counter with a name and labels of its own (`istio_requests_total{…}`).
pub fn labelled_counter(name: &str, labels: Vec<(String, String)>) -> Counter {
    Counter(store().metric(Kind::Counter, true, labelled_name(name, &labels), name.to_owned(), labels))
}

/// A histogram with a name and labels of its own.
pub fn labelled_histogram(name: &str, labels: Vec<(String, String)>) -> Histogram {
    Histogram(store().metric(Kind::Histogram, true, labelled_name(name, &labels), name.to_owned(), labels))
}

fn labelled_name(name: &str, labels: &[(String, String)]) -> String {
    let mut text = format!("istiocustom.{name}");
    for (label, value) in labels {
        text.push_str(&format!(".{label}.{value}"));
    }
    text
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
    fn bins_have_two_digits() {
        for (value, low, high) in [(0, 0, 1), (9, 9, 10), (10, 10, 11), (123, 120, 130), (99_999, 99_000, 100_000)] {
            assert_eq!(bounds_of(bin_of(value)), (low, high), "{value}");
        }
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
