//! Passes a connection's bytes to a host of a cluster and back. Source: Envoy's `envoy.filters.network.tcp_proxy`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connect::connect;
use crate::error::ResponseFlags;
use crate::format::Context;
use crate::io::{Counted, Io, Traffic};
use crate::observe::access_log::AccessLog;
use crate::observe::stats::{Counter, Gauge};
use crate::stream::Stream;
use crate::tls::TlsRequest;
use crate::upstream::LocalCluster;
use crate::upstream::connect::Established;
use crate::worker::Worker;

/// A compiled filter; immutable, shared by all workers.
pub struct TcpProxy {
    /// With weights; never empty, never all 0.
    pub clusters: Vec<(Arc<str>, u32)>,
    /// 1 h; `None`: never.
    pub idle_timeout: Option<Duration>,
    pub max_duration: Option<Duration>,
    /// Clusters that hash get the caller's address. Source: `hash_policy.source_ip`.
    pub hash_source_ip: bool,
    /// At least 1.
    pub connect_attempts: u32,
    pub access_logs: Vec<AccessLog>,
    pub stats: TcpStats,
}

/// Handles to `tcp.PREFIX.*`.
pub struct TcpStats {
    pub cx_total: Counter,
    pub cx_no_route: Counter,
    pub rx_bytes: Counter,
    pub tx_bytes: Counter,
    pub idle_timeout: Counter,
    pub max_duration: Counter,
    pub upstream_flush_active: Gauge,
}

const BUFFER: usize = 16 << 10;

impl TcpProxy {
    /// Serves a connection until either side ends it.
    pub async fn serve(&self, io: Box<dyn Io>, stream: Rc<Stream>, worker: &Worker) {
        self.stats.cx_total.inc();
        let downstream = Counted::new(io, self.stats.rx_bytes.clone(), self.stats.tx_bytes.clone());
        let traffic = downstream.traffic();
        let name = self.choose(fastrand::u64(..));
        *stream.upstream.cluster.borrow_mut() = Some(name.clone());
        match worker.snapshot().cluster(&name).cloned() {
            None => {
                self.stats.cx_no_route.inc();
                stream.add_flags(ResponseFlags::NO_CLUSTER_FOUND);
            }
            Some(cluster) => {
                match connect(&cluster, &stream, self.connect_attempts, self.hash(&stream), &TlsRequest::default())
                    .await
                {
                    Err(error) => stream.add_flags(error.flags()),
                    Ok((upstream, held)) => {
                        self.join(downstream, upstream, &stream, &cluster).await;
                        drop(held);
                    }
                }
            }
        }
        stream.bytes_received.set(traffic.received());
        stream.bytes_sent.set(traffic.sent());
        stream.end.set(Some(Instant::now()));
        self.access_logs.iter().for_each(|log| log.write(&Context::of(&stream)));
    }

    /// Source: Envoy's `Network::HashPolicyImpl`.
    fn hash(&self, stream: &Stream) -> Option<u64> {
        let ip = stream.connection.remote.ip().filter(|_| self.hash_source_ip)?;
        Some(xxhash_rust::xxh64::xxh64(ip.to_string().as_bytes(), 0))
    }

    /// The cluster whose share the number falls into.
    fn choose(&self, random: u64) -> Arc<str> {
        let total: u64 = self.clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut point = random % total.max(1);
        let chosen = self.clusters.iter().find(|(_, weight)| {
            let inside = point < u64::from(*weight);
            point = point.wrapping_sub(u64::from(*weight));
            inside
        });
        chosen.map_or_else(|| "".into(), |(name, _)| name.clone())
    }

    async fn join<I: Io>(
        &self,
        mut downstream: Counted<I>,
        upstream: Established,
        stream: &Stream,
        cluster: &LocalCluster,
    ) {
        let pool = &cluster.stats().pool;
        let begun = Instant::now();
        let mut upstream = Counted::new(upstream.io, pool.cx_rx_bytes.clone(), pool.cx_tx_bytes.clone());
        let (down, up) = (downstream.traffic(), upstream.traffic());
        let copied = tokio::io::copy_bidirectional_with_sizes(&mut downstream, &mut upstream, BUFFER, BUFFER);
        tokio::select! {
            done = copied => {
                if done.is_err() {
                    stream.add_flags(ResponseFlags::UPSTREAM_CONNECTION_TERMINATION);
                }
            }
            () = idle(self.idle_timeout, &down, &up) => self.stats.idle_timeout.inc(),
            () = limit(self.max_duration) => {
                self.stats.max_duration.inc();
                stream.add_flags(ResponseFlags::DURATION_TIMEOUT);
            }
        }
        stream.upstream.bytes_sent.set(up.sent());
        stream.upstream.bytes_received.set(up.received());
        pool.cx_destroy.inc();
        pool.cx_length_ms.record(begun.elapsed().as_millis() as u64);
    }
}

async fn limit(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Done when no byte has moved for the whole time, give or take a tenth.
async fn idle(limit: Option<Duration>, down: &Traffic, up: &Traffic) {
    let Some(limit) = limit else { return std::future::pending().await };
    let moved = || down.received() + down.sent() + up.received() + up.sent();
    let tick = (limit / 10).clamp(Duration::from_millis(5), Duration::from_secs(60));
    let (mut seen, mut since) = (moved(), Instant::now());
    loop {
        tokio::time::sleep(tick.min(limit)).await;
        let now = moved();
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() >= limit {
            return;
        }
    }
}
