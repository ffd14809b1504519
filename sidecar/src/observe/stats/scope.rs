//! Names of metrics with their tags, made from prefixes; metrics whose names are known late, or are whole by themselves.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Counter, Gauge, Histogram, Kind, Metric, store};

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
