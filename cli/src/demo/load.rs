//! Steady calls of web, and what they come to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::manifests::SAMPLES;

/// A page or an answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// One GET on a connection of its own.
pub(crate) async fn get(address: &str, path: &str, host: &str) -> anyhow::Result<Answer> {
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::get(path).header(HOST, host).body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        Ok(Answer { status, body: response.into_body().collect().await?.to_bytes() })
    })
    .await
    .context("no answer in 10 s")?
}

/// Which version of reviews answered a call of web, if all went well.
pub(super) async fn call_web() -> anyhow::Result<Value> {
    let answer = get(&SAMPLES[0].app(), "/", "web").await?;
    anyhow::ensure!(answer.status == 200, "web answers {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(serde_json::from_slice(&answer.body)?)
}

/// The version of reviews in an answer of web.
pub(super) fn version(answer: &Value) -> Option<&str> {
    answer.get("next")?.get("app")?.as_str()
}

/// What calls came to since it was last asked.
pub(super) struct Count {
    pub(super) versions: [u64; 2],
    pub(super) failed: u64,
    pub(super) first_failure: Option<String>,
    pub(super) micros: Histogram<u64>,
}

impl Count {
    fn new() -> Option<Self> {
        // Three digits are a valid precision.
        let micros = Histogram::new_with_bounds(1, 60_000_000, 3).ok()?;
        Some(Self { versions: [0; 2], failed: 0, first_failure: None, micros })
    }
}

/// Steady calls, until it is dropped.
pub(super) struct Load {
    count: Arc<parking_lot::Mutex<Option<Count>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Load {
    /// Calls web so many times a second.
    pub(super) fn start(rate: u32) -> Self {
        let count = Arc::new(parking_lot::Mutex::new(Count::new()));
        let shared = count.clone();
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
            loop {
                tick.tick().await;
                let shared = shared.clone();
                tokio::spawn(async move {
                    let begun = Instant::now();
                    let answer = call_web().await;
                    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    if let Some(count) = shared.lock().as_mut() {
                        add(count, &answer, micros);
                    }
                });
            }
        });
        Self { count, task }
    }

    /// What calls came to since this was last asked.
    pub(super) fn take(&self) -> Option<Count> {
        std::mem::replace(&mut *self.count.lock(), Count::new())
    }

    /// A line for people; nothing if there were no calls.
    pub(super) fn line(&self, weights: &[f64; 2]) -> Option<String> {
        let count = self.take()?;
        let [v1, v2] = count.versions;
        let all = v1 + v2 + count.failed;
        let percent = |n: u64, of: u64| if of == 0 { 0.0 } else { 100.0 * n as f64 / of as f64 };
        let millis = |quantile: f64| count.micros.value_at_quantile(quantile) as f64 / 1000.0;
        (all > 0).then(|| {
            format!(
                "v1 {:5.1} % (weight {:.0})   v2 {:5.1} % (weight {:.0})   success {:5.1} %   p50 {:.1} ms   p99 {:.1} ms   mTLS",
                percent(v1, v1 + v2), weights[0], percent(v2, v1 + v2), weights[1], percent(v1 + v2, all), millis(0.5), millis(0.99)
            )
        })
    }
}

fn add(count: &mut Count, answer: &anyhow::Result<Value>, micros: u64) {
    match answer.as_ref().map(version) {
        Ok(Some("reviews-v1")) => count.versions[0] += 1,
        Ok(Some("reviews-v2")) => count.versions[1] += 1,
        Ok(other) => {
            count.failed += 1;
            count.first_failure.get_or_insert_with(|| format!("answered by {other:?}"));
        }
        Err(error) => {
            count.failed += 1;
            count.first_failure.get_or_insert_with(|| format!("{error:#}"));
        }
    }
    count.micros.saturating_record(micros);
}
