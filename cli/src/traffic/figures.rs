//! What an item of the metrics API says, as numbers, and how people are told. Not whether it is good or bad.

use std::time::Duration;

use api::GoDuration;
use serde_json::{Value, json};

/// How requests went within a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) success: u64,
    pub(crate) failure: u64,
    pub(crate) p50: Duration,
    pub(crate) p90: Duration,
    pub(crate) p99: Duration,
    pub(crate) window: Duration,
}

impl Figures {
    /// Reads an item; what is missing counts as nothing.
    pub(crate) fn of(item: &Value) -> Self {
        let value = |name: &str| {
            let metrics = item["metrics"].as_array().into_iter().flatten();
            metrics.filter(|metric| metric["name"] == name).find_map(|metric| metric["value"].as_str()).unwrap_or("0")
        };
        let count = |name| value(name).parse().unwrap_or(0);
        let latency = |name| seconds(value(name)).unwrap_or_default();
        let window = item["window"].as_str().and_then(|window| window.parse::<GoDuration>().ok());
        Self {
            success: count("success_count"),
            failure: count("failure_count"),
            p50: latency("p50_response_latency"),
            p90: latency("p90_response_latency"),
            p99: latency("p99_response_latency"),
            window: window.map(GoDuration::get).unwrap_or_default(),
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.success + self.failure
    }

    pub(crate) fn per_second(&self) -> f64 {
        if self.window.is_zero() { 0.0 } else { self.requests() as f64 / self.window.as_secs_f64() }
    }

    /// In percent; `None` where nothing was asked.
    pub(crate) fn success_rate(&self) -> Option<f64> {
        (self.requests() > 0).then(|| 100.0 * self.success as f64 / self.requests() as f64)
    }

    /// The heads of [`Self::cells`].
    pub(crate) const HEADS: [&'static str; 5] = ["REQUESTS/S", "SUCCESS", "P50", "P90", "P99"];

    /// For people: where there was nothing, nothing is claimed.
    pub(crate) fn cells(&self) -> [String; 5] {
        let Some(rate) = self.success_rate() else { return ["0.0", "-", "-", "-", "-"].map(str::to_owned) };
        let latency = |of: Duration| {
            let ms = of.as_secs_f64() * 1000.0;
            if ms < 100.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
        };
        let (per_second, rate) = (format!("{:.1}", self.per_second()), format!("{rate:.2} %"));
        [per_second, rate, latency(self.p50), latency(self.p90), latency(self.p99)]
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let seconds = |of: Duration| self.success_rate().map(|_| of.as_secs_f64());
        json!({
            "requestsPerSecond": self.per_second(),
            "successRate": self.success_rate(),
            "successCount": self.success,
            "failureCount": self.failure,
            "p50Seconds": seconds(self.p50),
            "p90Seconds": seconds(self.p90),
            "p99Seconds": seconds(self.p99),
            "windowSeconds": self.window.as_secs_f64(),
        })
    }
}

/// Seconds as a quantity: `10m` is ten milliseconds. Source: Kubernetes `resource.Quantity`, of which latencies need the small units.
fn seconds(text: &str) -> Option<Duration> {
    let units = [("m", 1e-3), ("u", 1e-6), ("n", 1e-9)];
    let found = units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)));
    let (number, scale) = found.unwrap_or((text, 1.0));
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, micros) in [
            ("10m", Some(10_000)),
            ("5500u", Some(5500)),
            ("2", Some(2_000_000)),
            ("0.5", Some(500_000)),
            ("x", None),
            ("-1", None),
        ] {
            assert_eq!(seconds(text).map(|found| found.as_micros()), micros, "{text}");
        }
    }

    #[test]
    fn items() {
        let item = json!({"window": "30s", "metrics": [
            {"name": "p99_response_latency", "unit": "seconds", "value": "250m"},
            {"name": "p90_response_latency", "unit": "seconds", "value": "5500u"},
            {"name": "success_count", "value": "57"},
            {"name": "failure_count", "value": "3"},
        ]});
        let figures = Figures::of(&item);
        assert_eq!((figures.requests(), figures.per_second(), figures.success_rate()), (60, 2.0, Some(95.0)));
        assert_eq!(figures.cells(), ["2.0", "95.00 %", "0.0 ms", "5.5 ms", "250 ms"]);
        let nothing = Figures::of(&json!({}));
        assert_eq!((nothing.success_rate(), nothing.cells()[1].as_str()), (None, "-"));
        assert!(nothing.json()["p99Seconds"].is_null());
    }
}
