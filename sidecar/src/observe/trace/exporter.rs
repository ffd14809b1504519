//! Sends finished spans to their collectors, from the main thread. Workers only hand them over: a slow
//! collector holds no request up, and spans it can't take are dropped and counted.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use crate::io::Io;
use crate::observe::stats::{Counter, Scope};

/// Where spans go. Source: `ZipkinConfig.collector_*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Collector {
    pub cluster: String,
    pub path: String,
    pub hostname: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long a report may take; 5 s.
    pub timeout: Option<Duration>,
}

/// Connects to a cluster by its name.
pub type Dial = Arc<dyn Fn(&str) -> Pin<Box<dyn Future<Output = std::io::Result<Box<dyn Io>>> + Send>> + Send + Sync>;

/// Spans that may wait to be sent.
const WAITING: usize = 4096;
/// Spans of one request to the collector.
const BATCH: usize = 100;
/// How long the first of them waits for others. Envoy sends every 5 s, or 5 spans.
const FLUSH: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);

enum Message {
    Span(Arc<Collector>, Value),
    Flush(oneshot::Sender<()>),
}

struct Queue {
    sender: mpsc::Sender<Message>,
    dropped: Counter,
}

static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Hands a span over; without an exporter it is gone.
pub fn report(collector: &Arc<Collector>, span: Value) {
    if let Some(queue) = QUEUE.get()
        && queue.sender.try_send(Message::Span(collector.clone(), span)).is_err()
    {
        queue.dropped.inc();
    }
}

/// Waits until what was handed over so far is sent, but not longer than one report may take (at exit).
pub async fn flush() {
    let Some(queue) = QUEUE.get() else { return };
    let (done, flushed) = oneshot::channel();
    if queue.sender.try_send(Message::Flush(done)).is_ok() {
        let _ = tokio::time::timeout(TIMEOUT, flushed).await;
    }
}

/// Starts to send. Later calls change nothing.
pub fn start(dial: Dial) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let dropped = Scope::root().child("tracing").child("zipkin").counter("reports_dropped");
    if QUEUE.set(Queue { sender, dropped }).is_ok() {
        tokio::spawn(run(receiver, dial));
    }
}

struct Stats {
    spans: Counter,
    flushed: Counter,
    sent: Counter,
    dropped: Counter,
    failed: Counter,
}

async fn run(mut messages: mpsc::Receiver<Message>, dial: Dial) {
    let scope = Scope::root().child("tracing").child("zipkin");
    let stats = Stats {
        spans: scope.counter("spans_sent"),
        flushed: scope.counter("timer_flushed"),
        sent: scope.counter("reports_sent"),
        dropped: scope.counter("reports_dropped"),
        failed: scope.counter("reports_failed"),
    };
    while let Some(first) = messages.recv().await {
        let mut batches: HashMap<Arc<Collector>, Vec<Value>> = HashMap::new();
        let mut flushed = None;
        let mut count = 0;
        let deadline = tokio::time::Instant::now() + FLUSH;
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Span(collector, span) => batches.entry(collector).or_default().push(span),
                Message::Flush(done) => {
                    flushed = Some(done);
                    break;
                }
            }
            count += 1;
            if count < BATCH {
                match tokio::time::timeout_at(deadline, messages.recv()).await {
                    Ok(message) => next = message,
                    Err(_) => stats.flushed.inc(),
                }
            }
        }
        for (collector, batch) in batches {
            stats.spans.add(batch.len() as u64);
            match tokio::time::timeout(collector.timeout.unwrap_or(TIMEOUT), send(&collector, &batch, &dial)).await {
                Ok(Ok(status)) if (200..300).contains(&status) => stats.sent.inc(),
                Ok(Ok(_)) => stats.dropped.inc(),
                Ok(Err(error)) => {
                    debug!(cluster = collector.cluster, "spans not sent: {error:#}");
                    stats.failed.inc();
                }
                Err(_) => stats.failed.inc(),
            }
        }
        if let Some(done) = flushed {
            let _ = done.send(());
        }
    }
}

async fn send(collector: &Collector, spans: &[Value], dial: &Dial) -> anyhow::Result<u16> {
    let io = dial(&collector.cluster).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let running = tokio::spawn(connection);
    let mut request = Request::post(collector.path.as_str())
        .header(http::header::HOST, collector.hostname.as_str())
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(serde_json::to_vec(spans)?)))?;
    request.headers_mut().extend(collector.headers.iter().cloned());
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    // Read to its end, so that the collector sees an orderly close.
    let _ = response.into_body().collect().await;
    drop(sender);
    running.abort();
    Ok(status)
}
