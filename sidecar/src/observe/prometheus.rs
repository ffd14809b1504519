//! Metrics as Prometheus' text, named as Envoy names them: `envoy_` and the name without tag values.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::stats::{HistogramSnapshot, Kind, Metric, store};

/// Envoy's default histogram buckets.
const BUCKETS: [f64; 20] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10000.0,
    30000.0,
    60000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
    f64::INFINITY,
];

/// All metrics that `wanted` takes by their dotted names. `used_only` leaves out those that were never written.
pub fn render(used_only: bool, wanted: &dyn Fn(&str) -> bool) -> String {
    let mut families: BTreeMap<String, Vec<Arc<Metric>>> = BTreeMap::new();
    for metric in store().metrics() {
        if (!used_only || metric.used()) && wanted(&metric.name) {
            families.entry(family(&metric)).or_default().push(metric);
        }
    }
    let mut out = String::new();
    for (name, metrics) in families {
        let kind = match metrics.first().map(|m| m.kind) {
            Some(Kind::Counter) => "counter",
            Some(Kind::Gauge) => "gauge",
            Some(Kind::Histogram) => "histogram",
            None => continue,
        };
        let _ = writeln!(out, "# TYPE {name} {kind}");
        for metric in metrics {
            match metric.histogram() {
                Some(snapshot) => histogram(&mut out, &name, &metric.tags, &snapshot),
                None => {
                    let _ = writeln!(out, "{name}{{{}}} {}", labels(&metric.tags), metric.value());
                }
            }
        }
    }
    out
}

fn family(metric: &Metric) -> String {
    let name: String = metric
        .tag_extracted_name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
        .collect();
    if metric.standalone { name } else { format!("envoy_{name}") }
}

fn labels(tags: &[(String, String)]) -> String {
    let escape = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    tags.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect::<Vec<_>>().join(",")
}

fn histogram(out: &mut String, name: &str, tags: &[(String, String)], snapshot: &HistogramSnapshot) {
    let tags = labels(tags);
    let comma = if tags.is_empty() { "" } else { "," };
    for bound in BUCKETS {
        let shown = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
        let _ = writeln!(out, "{name}_bucket{{{tags}{comma}le=\"{shown}\"}} {}", snapshot.at_most(bound));
    }
    let _ = writeln!(out, "{name}_sum{{{tags}}} {}\n{name}_count{{{tags}}} {}", snapshot.sum, snapshot.count);
}

#[cfg(test)]
mod tests {
    use crate::observe::stats::Scope;

    #[test]
    fn names_tags_and_buckets() {
        let scope = Scope::cluster("prom_text");
        let (counter, times) = (scope.counter("upstream_rq_total"), scope.histogram("upstream_rq_time"));
        counter.add(3);
        times.record(7);
        let text = super::render(true, &|_| true);
        for line in [
            "# TYPE envoy_cluster_upstream_rq_total counter",
            "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"prom_text\"} 3",
            "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"prom_text\",le=\"5\"} 0",
            "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"prom_text\",le=\"10\"} 1",
            "envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"prom_text\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
