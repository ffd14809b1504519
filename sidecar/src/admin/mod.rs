//! The admin pages, on the main thread: Envoy's paths and shapes, as far as they go yet.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use regex::Regex;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::assemble::Phase;
use crate::observe::{prometheus, stats};

/// Answers until the task is dropped.
pub async fn serve(listener: TcpListener, phase: watch::Receiver<Phase>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let phase = phase.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let phase = *phase.borrow();
                let answer = answer(phase, request.method(), request.uri().path(), request.uri().query());
                std::future::ready(Ok::<_, Infallible>(answer))
            });
            // A client that breaks off is its own affair.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(phase: Phase, method: &Method, path: &str, query: Option<&str>) -> Response<Full<Bytes>> {
    match (path, method) {
        ("/ready", _) => match phase {
            Phase::Live => page(StatusCode::OK, "LIVE\n".to_owned()),
            Phase::Listeners => page(StatusCode::SERVICE_UNAVAILABLE, "INITIALIZING\n".to_owned()),
            Phase::Clusters => page(StatusCode::SERVICE_UNAVAILABLE, "PRE_INITIALIZING\n".to_owned()),
        },
        ("/stats/prometheus", _) => prometheus_page(query),
        ("/stats", _) if value(query, "format") == Some("prometheus") => prometheus_page(query),
        ("/stats", _) => stats_page(query),
        ("/reset_counters", &Method::POST) => {
            stats::store().reset_counters();
            page(StatusCode::OK, "OK\n".to_owned())
        }
        ("/reset_counters", _) => page(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed".to_owned()),
        _ => page(
            StatusCode::NOT_FOUND,
            format!("invalid path: {path}. admin commands are: /ready, /reset_counters, /stats, /stats/prometheus\n"),
        ),
    }
}

fn has(query: Option<&str>, name: &str) -> bool {
    value(query, name).is_some()
}

fn value<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    crate::matcher::query_value(query?, name)
}

/// The query's `filter`, a regex that is searched for in dotted names.
fn filter(query: Option<&str>) -> Result<Option<Regex>, regex::Error> {
    value(query, "filter").map(Regex::new).transpose()
}

fn invalid(error: &regex::Error) -> Response<Full<Bytes>> {
    page(StatusCode::BAD_REQUEST, format!("Invalid regex: \"{error}\"\n"))
}

fn prometheus_page(query: Option<&str>) -> Response<Full<Bytes>> {
    match filter(query) {
        Err(error) => invalid(&error),
        Ok(filter) => {
            let wanted = |name: &str| filter.as_ref().is_none_or(|f| f.is_match(name));
            page(StatusCode::OK, prometheus::render(has(query, "usedonly"), &wanted))
        }
    }
}

fn stats_page(query: Option<&str>) -> Response<Full<Bytes>> {
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

fn page(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; charset=UTF-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}
