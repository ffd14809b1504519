//! `/stats` and `/stats/prometheus`.

use http::StatusCode;
use regex::Regex;

use super::{Page, has, page, value};
use crate::observe::{prometheus, stats};

/// The query's `filter`, a regex that is searched for in dotted names.
fn filter(query: Option<&str>) -> Result<Option<Regex>, regex::Error> {
    value(query, "filter").map(Regex::new).transpose()
}

fn invalid(error: &regex::Error) -> Page {
    page(StatusCode::BAD_REQUEST, format!("Invalid regex: \"{error}\"\n"))
}

pub fn prometheus_page(query: Option<&str>) -> Page {
    match filter(query) {
        Err(error) => invalid(&error),
        Ok(filter) => {
            let wanted = |name: &str| filter.as_ref().is_none_or(|f| f.is_match(name));
            page(StatusCode::OK, prometheus::render(has(query, "usedonly"), &wanted))
        }
    }
}

pub fn stats_page(query: Option<&str>) -> Page {
    let filter = match filter(query) {
        Ok(filter) => filter,
        Err(error) => return invalid(&error),
    };
    let mut text = String::new();
    for metric in stats::store().metrics() {
        if filter.as_ref().is_some_and(|f| !f.is_match(&metric.name)) || has(query, "usedonly") && !metric.used() {
            continue;
        }
        match metric.histogram() {
            None => text.push_str(&format!("{}: {}\n", metric.name, metric.value())),
            Some(h) if h.count == 0 => text.push_str(&format!("{}: No recorded values\n", metric.name)),
            Some(h) => {
                let at = |q: f64| format!("P{}(nan,{:.3})", q * 100.0, h.quantile(q));
                let all: Vec<_> = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0].map(at).into();
                text.push_str(&format!("{}: {}\n", metric.name, all.join(" ")));
            }
        }
    }
    page(StatusCode::OK, text)
}
