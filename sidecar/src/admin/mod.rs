//! The admin pages, on the main thread: Envoy's paths, methods and shapes. What a page shows is asked of `assemble` when
//! somebody looks.

mod clusters;
mod config_dump;
mod info;
mod stats;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, SERVER};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::assemble::Phase;
use crate::assemble::view::Queries;
use crate::observe::server;
use crate::options::Options;

/// What the pages are made from.
pub struct Admin {
    pub phase: watch::Receiver<Phase>,
    pub queries: Queries,
    pub bootstrap: Bootstrap,
    pub node: crate::bootstrap::Node,
    pub options: Options,
    pub workers: usize,
    pub started: Instant,
}

/// A page: status, type and text.
pub struct Page {
    status: StatusCode,
    kind: &'static str,
    text: String,
}

const PLAIN: &str = "text/plain; charset=UTF-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=UTF-8";

fn page(status: StatusCode, text: impl Into<String>) -> Page {
    Page { status, kind: PLAIN, text: text.into() }
}

fn json(text: impl Into<String>) -> Page {
    Page { status: StatusCode::OK, kind: JSON, text: text.into() }
}

/// Paths, whether they change something, and what they are for.
const PAGES: [(&str, bool, &str); 22] = [
    ("/", false, "Admin home page"),
    ("/certs", false, "print certs on machine"),
    ("/clusters", false, "upstream cluster status"),
    ("/config_dump", false, "dump current Envoy configs (experimental)"),
    ("/contention", false, "dump current Envoy mutex contention stats (if enabled)"),
    ("/drain_listeners", true, "drain listeners"),
    ("/healthcheck/fail", true, "cause the server to fail health checks"),
    ("/healthcheck/ok", true, "cause the server to pass health checks"),
    ("/help", false, "print out list of admin commands"),
    ("/hot_restart_version", false, "print the hot restart compatibility version"),
    ("/init_dump", false, "dump current Envoy init manager information (experimental)"),
    ("/listeners", false, "print listener info"),
    ("/logging", true, "query/change logging levels"),
    ("/memory", false, "print current allocation/heap usage"),
    ("/quitquitquit", true, "exit the server"),
    ("/ready", false, "print server state, return 200 if LIVE, otherwise return 503"),
    ("/reset_counters", true, "reset all counters to zero"),
    ("/runtime", false, "print runtime values"),
    ("/runtime_modify", true, "modify runtime values"),
    ("/server_info", false, "print server version/status information"),
    ("/stats", false, "print server stats"),
    ("/stats/prometheus", false, "print server stats in prometheus format"),
];

/// Answers until the task is dropped.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let admin = admin.clone();
                async move {
                    let uri = request.uri();
                    Ok::<_, Infallible>(respond(admin.answer(request.method(), uri.path(), uri.query()).await))
                }
            });
            // A client that breaks off is its own affair.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type AdminBody = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

/// Sent in chunks and with the connection closed behind it, as Envoy does.
fn respond(page: Page) -> Response<AdminBody> {
    let frame = Ok::<_, Infallible>(Frame::data(Bytes::from(page.text)));
    let body = StreamBody::new(futures_util::stream::iter([frame])).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = page.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    headers.insert(SERVER, HeaderValue::from_static("envoy"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

impl Admin {
    async fn answer(&self, method: &Method, path: &str, query: Option<&str>) -> Page {
        let Some((_, changes, _)) = PAGES.iter().find(|(known, ..)| *known == path) else {
            let text = format!("invalid path. {}", info::help());
            return page(StatusCode::NOT_FOUND, text);
        };
        if *changes && method != Method::POST {
            let text = format!("Method {method} not allowed, POST required.");
            return page(StatusCode::METHOD_NOT_ALLOWED, text);
        }
        let ok = || page(StatusCode::OK, "OK\n");
        match path {
            "/" => Page { kind: HTML, ..page(StatusCode::OK, info::home()) },
            "/help" => page(StatusCode::OK, info::help()),
            "/ready" => self.ready(),
            "/stats/prometheus" => stats::prometheus_page(query),
            "/stats" if value(query, "format") == Some("prometheus") => stats::prometheus_page(query),
            "/stats" => stats::stats_page(query),
            "/reset_counters" => {
                crate::observe::stats::store().reset_counters();
                ok()
            }
            "/config_dump" => config_dump::page(self, &self.queries.view().await, query),
            "/clusters" => clusters::page(&self.queries.view().await, query),
            "/certs" => info::certs(&self.queries.view().await),
            "/listeners" => info::listeners(&self.queries.view().await, query),
            "/server_info" => info::server_info(self),
            "/memory" => info::memory(),
            "/runtime" => info::runtime(),
            "/runtime_modify" => info::runtime_modify(query),
            "/logging" => info::logging(query),
            "/hot_restart_version" => page(StatusCode::OK, "disabled"),
            "/contention" => page(
                StatusCode::OK,
                "Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing.",
            ),
            "/init_dump" => json("{}"),
            "/healthcheck/fail" => {
                server::fail_health_checks(true);
                ok()
            }
            "/healthcheck/ok" => {
                server::fail_health_checks(false);
                ok()
            }
            "/drain_listeners" => {
                self.queries.drain(has(query, "inboundonly"));
                ok()
            }
            "/quitquitquit" => {
                info::quit();
                ok()
            }
            _ => page(StatusCode::NOT_FOUND, "invalid path. "),
        }
    }

    fn state(&self) -> &'static str {
        match *self.phase.borrow() {
            Phase::Live if server::fails_health_checks() => "DRAINING",
            Phase::Live => "LIVE",
            Phase::Listeners => "INITIALIZING",
            Phase::Clusters => "PRE_INITIALIZING",
        }
    }

    fn ready(&self) -> Page {
        let state = self.state();
        let status = if state == "LIVE" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        page(status, format!("{state}\n"))
    }
}

fn has(query: Option<&str>, name: &str) -> bool {
    value(query, name).is_some()
}

fn value<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    crate::matcher::query_value(query?, name)
}
