//! Sends spans: workers put finished ones into a bounded queue, and one task on the main thread posts
//! them in batches. A collector that is slow or gone costs spans, never requests; each loss is counted.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::span::Span;
use crate::io::Io;
use crate::observe::node;
use crate::observe::stats::{Counter, Scope};

/// Where spans go. Source: `ZipkinConfig.collector_{cluster,endpoint,hostname}`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Collector {
    pub cluster: String,
    /// Path and query of the API.
    pub endpoint: String,
    /// The Host header.
    pub host: String,
}

/// Connects to a host of the cluster with this name.
pub type Connect = Box<dyn Fn(&str) -> Pin<Box<dyn Future<Output = std::io::Result<Box<dyn Io>>> + Send>> + Send>;

/// Spans that may wait for the collector.
const WAITING: usize = 8192;
/// Spans of one report.
const BATCH: usize = 512;
/// A report is sent when this many wait. Source: runtime `tracing.zipkin.min_flush_spans`.
const ENOUGH: usize = 5;
/// The first span of a report waits no longer than this. Envoy: 5 s (`tracing.zipkin.flush_interval_ms`).
const FLUSH: Duration = Duration::from_secs(1);
/// Source: runtime `tracing.zipkin.request_timeout`.
const REQUEST: Duration = Duration::from_secs(5);

enum Message {
    Span(Box<Span>),
    Flush(oneshot::Sender<()>),
}

struct Queue {
    sender: mpsc::Sender<Message>,
    dropped: Counter,
}

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Hands a span over; without a running exporter, or with a full queue, it is dropped.
pub fn submit(span: Span) {
    if let Some(queue) = QUEUE.get()
        && queue.sender.try_send(Message::Span(Box::new(span))).is_err()
    {
        queue.dropped.inc();
    }
}

/// Waits until all spans handed over so far are sent, but not longer than a report may take.
pub async fn flush() {
    let Some(queue) = QUEUE.get() else { return };
    let (done, flushed) = oneshot::channel();
    if queue.sender.try_send(Message::Flush(done)).is_ok() {
        let _ = timeout(REQUEST, flushed).await;
    }
}

/// Starts the exporter on this runtime; later calls change nothing.
pub fn start(connect: Connect) {
    let (sender, inbox) = mpsc::channel(WAITING);
    let scope = Scope::root().child("tracing").child("zipkin");
    let queue = Queue { sender, dropped: scope.counter("spans_dropped") };
    if QUEUE.set(queue).is_ok() {
        tokio::spawn(Exporter::new(connect, &scope).run(inbox));
    }
}

struct Exporter {
    connect: Connect,
    open: HashMap<Arc<Collector>, SendRequest<Full<Bytes>>>,
    spans_sent: Counter,
    timer_flushed: Counter,
    reports_sent: Counter,
    reports_dropped: Counter,
    reports_failed: Counter,
    reports_skipped_no_cluster: Counter,
}

/// Why a report did not arrive.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("no host: {0}")]
    NoHost(std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the request can't be made: {0}")]
    Request(#[from] http::Error),
    #[error("took too long")]
    Timeout,
    #[error("answered {0}")]
    Status(http::StatusCode),
}

impl Exporter {
    fn new(connect: Connect, scope: &Scope) -> Self {
        Exporter {
            connect,
            open: HashMap::new(),
            spans_sent: scope.counter("spans_sent"),
            timer_flushed: scope.counter("timer_flushed"),
            reports_sent: scope.counter("reports_sent"),
            reports_dropped: scope.counter("reports_dropped"),
            reports_failed: scope.counter("reports_failed"),
            reports_skipped_no_cluster: scope.counter("reports_skipped_no_cluster"),
        }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        while let Some(first) = inbox.recv().await {
            let deadline = Instant::now() + FLUSH;
            let mut waiting = vec![first];
            while waiting.len() < ENOUGH && !matches!(waiting.last(), Some(Message::Flush(_))) {
                match timeout_at(deadline, inbox.recv()).await {
                    Ok(Some(message)) => waiting.push(message),
                    Ok(None) => break,
                    Err(_) => {
                        self.timer_flushed.inc();
                        break;
                    }
                }
            }
            // Whatever came meanwhile goes along.
            while waiting.len() < BATCH
                && let Ok(message) = inbox.try_recv()
            {
                waiting.push(message);
            }
            self.report(waiting).await;
        }
    }

    async fn report(&mut self, messages: Vec<Message>) {
        let mut reports: HashMap<Arc<Collector>, Vec<serde_json::Value>> = HashMap::new();
        let mut flushed = Vec::new();
        for message in messages {
            match message {
                Message::Span(span) => {
                    reports.entry(span.collector.clone()).or_default().push(span.to_json(node::get()));
                }
                Message::Flush(done) => flushed.push(done),
            }
        }
        for (collector, spans) in reports {
            self.spans_sent.add(spans.len() as u64);
            let sent =
                timeout(REQUEST, self.post(&collector, serde_json::Value::Array(spans).to_string().into())).await;
            match sent.unwrap_or(Err(ReportError::Timeout)) {
                Ok(()) => self.reports_sent.inc(),
                Err(error) => {
                    debug!(cluster = collector.cluster, "spans not sent: {error}");
                    self.open.remove(&collector);
                    match error {
                        ReportError::NoHost(_) => self.reports_skipped_no_cluster.inc(),
                        ReportError::Status(_) => self.reports_dropped.inc(),
                        _ => self.reports_failed.inc(),
                    }
                }
            }
        }
        for done in flushed {
            let _ = done.send(());
        }
    }

    async fn post(&mut self, collector: &Arc<Collector>, body: Bytes) -> Result<(), ReportError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(collector.endpoint.as_str())
            .header(header::HOST, collector.host.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let mut sender = self.sender(collector).await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        self.open.insert(collector.clone(), sender);
        if status.is_success() { Ok(()) } else { Err(ReportError::Status(status)) }
    }

    /// The connection of the last report if it is still good, or a new one.
    async fn sender(&mut self, collector: &Arc<Collector>) -> Result<SendRequest<Full<Bytes>>, ReportError> {
        if let Some(mut open) = self.open.remove(collector)
            && open.ready().await.is_ok()
        {
            return Ok(open);
        }
        let io = (self.connect)(&collector.cluster).await.map_err(ReportError::NoHost)?;
        let (sender, connection) = handshake(TokioIo::new(io)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}
