//! A connection of a stream's own to a host of a cluster: for tcp_proxy, and for CONNECT that ends here.

use std::rc::Rc;
use std::time::Instant;

use crate::cluster::circuit_breaker::Resource;
use crate::error::ProxyError;
use crate::stream::Stream;
use crate::tls::TlsRequest;
use crate::upstream::connect::{ConnectError, Established};
use crate::upstream::local_cluster::{Wanted, establish};
use crate::upstream::pool::Active;
use crate::upstream::{LocalCluster, LocalHost};

/// Connects to a host of the cluster, chosen by `hash` where it hashes, trying up to `attempts` times, and writes down where to.
///
/// # Errors
/// No host may be used, or the last try failed.
pub async fn connect(
    cluster: &Rc<LocalCluster>,
    stream: &Stream,
    attempts: u32,
    hash: Option<u64>,
    request: &TlsRequest,
) -> Result<(Established, Held), ProxyError> {
    let mut last = ProxyError::NoHealthyUpstream;
    for attempt in 1..=attempts {
        stream.upstream.attempts.set(attempt);
        let host = match host(cluster, stream, hash).await {
            Ok(host) => host,
            Err(error) => {
                cluster.stats().cx_none_healthy.inc();
                return Err(error);
            }
        };
        *stream.upstream.host.borrow_mut() = Some(host.host.address.clone());
        *stream.upstream.host_metadata.borrow_mut() = Some(host.host.metadata.clone());
        *stream.upstream.cluster_metadata.borrow_mut() = Some(cluster.cluster.metadata.clone());
        let Some(permit) = cluster.permit(false, Resource::Connections) else {
            cluster.stats().pool.cx_overflow.inc();
            return Err(ConnectError::Overflow.into());
        };
        let pool = &cluster.stats().pool;
        pool.cx_total.inc();
        let active = Active::new(&pool.cx_active);
        let begun = Instant::now();
        match establish(&cluster.cluster, &host.host, request.clone()).await {
            Ok(upstream) => {
                pool.cx_connect_ms.record(begun.elapsed().as_millis() as u64);
                stream.upstream.local_address.set(upstream.local);
                stream.upstream.tls.borrow_mut().clone_from(&upstream.tls);
                stream.upstream.told.borrow_mut().clone_from(&upstream.told);
                host.active.set(host.active.get() + 1);
                let held = Held { host, _active: active, _permit: permit };
                return Ok((upstream, held));
            }
            Err(error) => {
                pool.cx_connect_fail.inc();
                if error == ConnectError::Timeout {
                    pool.cx_connect_timeout.inc();
                }
                last = error.into();
                if let ProxyError::Reset { transport_failure, .. } = &last {
                    stream.upstream.transport_failure.borrow_mut().clone_from(transport_failure);
                }
            }
        }
    }
    Err(last)
}

/// What an upstream connection holds as long as it lives.
pub struct Held {
    host: Rc<LocalHost>,
    _active: Active,
    _permit: crate::upstream::pool::Permit,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.host.active.set(self.host.active.get().saturating_sub(1));
    }
}

async fn host(cluster: &Rc<LocalCluster>, stream: &Stream, hash: Option<u64>) -> Result<Rc<LocalHost>, ProxyError> {
    if !cluster.cluster.makes_hosts() {
        return cluster.pick(hash, &|_| false, 0, &[], None).ok_or(ProxyError::NoHealthyUpstream);
    }
    let connection = &stream.connection;
    let destination = connection.local.socket().filter(|_| connection.local_restored);
    let wanted = Wanted { authority: connection.sni(), header: None, destination };
    cluster.make_host(&wanted).await
}
