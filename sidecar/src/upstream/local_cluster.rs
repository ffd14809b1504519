//! One worker's part of a cluster: its balancer, and its connections to each host.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use http::Response;
use smallvec::SmallVec;

use super::alpn::{self, Names, Override};
use super::connect::{ConnectError, connect};
use super::pool::{Connect, Limits, Permit, Pool, PoolOptions, Speaks};
use super::resolve::{Cache, split_authority};
use crate::body::ResponseBody;
use crate::cluster::circuit_breaker::Resource;
use crate::cluster::host_stats::{Count, Outcome};
use crate::cluster::load_balancer::{Balancer, Pick};
use crate::cluster::subset::{self, Choice, Criteria};
use crate::cluster::{Cluster, ClusterStats, Discovery, Host, HostSet, UpstreamProtocol};
use crate::error::ProxyError;
use crate::net::Address;
use crate::observe::stats::{Counter, Gauge, Scope};
use crate::stream::{Metadata, Protocol};
use crate::tls::TlsRequest;

/// A cluster as one worker uses it.
pub struct LocalCluster {
    pub cluster: Arc<Cluster>,
    worker: usize,
    balancer: RefCell<Balancer>,
    /// Balancers of subsets, made when a route first asks for one.
    subsets: RefCell<HashMap<String, Balancer>>,
    hosts: RefCell<HashMap<Address, Rc<LocalHost>>>,
    current: RefCell<Arc<HostSet>>,
    /// Counters of single status codes, made when a code is first seen.
    codes: RefCell<SmallVec<[CodeCounters; 4]>>,
    /// Of a ring: its points, and the fewest and most of one host.
    ring: RefCell<Option<[Gauge; 3]>>,
    names: Cache,
    /// The ALPN names of its TLS context hold for all requests.
    keeps_alpn: bool,
}

/// Hosts that a cluster has made and that are kept while nobody uses them.
const MADE_HOSTS: usize = 1024;

/// Where a request itself says that it wants to go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    pub authority: &'a str,
    /// The value of the header that the cluster names.
    pub header: Option<&'a str>,
    /// The connection's destination before it was redirected.
    pub destination: Option<std::net::SocketAddr>,
}

/// A status code with the counters of itself and its class.
type CodeCounters = ((u16, bool), [Counter; 5]);

/// The connections that speak one protocol, and offer these names instead of their TLS context's own.
type ProtocolPool = (Speaks, Option<Names>, Rc<Pool>);

/// One host's connections.
pub struct LocalHost {
    pub host: Arc<Host>,
    pub active: Cell<u32>,
    pools: RefCell<SmallVec<[ProtocolPool; 1]>>,
}

impl LocalCluster {
    pub fn new(cluster: Arc<Cluster>, worker: usize) -> Rc<Self> {
        let hosts = Arc::<HostSet>::default();
        Rc::new(LocalCluster {
            balancer: RefCell::new(Balancer::new(cluster.lb_policy, hosts.clone())),
            keeps_alpn: alpn::kept_by(&cluster.metadata),
            cluster,
            worker,
            subsets: RefCell::default(),
            hosts: RefCell::default(),
            current: RefCell::new(hosts),
            codes: RefCell::default(),
            ring: RefCell::default(),
            names: Cache::default(),
        })
    }

    /// Takes what came of a try at a host.
    pub fn report(&self, host: &LocalHost, outcome: Outcome) {
        let count = match outcome {
            Outcome::Status(status) if status < 500 => Count::RqSuccess,
            _ => Count::RqError,
        };
        host.host.stats.inc(self.worker, count);
        self.cluster.report(&host.host, self.worker, outcome);
    }

    /// Counts at a host.
    pub fn count(&self, host: &LocalHost, count: Count) {
        host.host.stats.inc(self.worker, count);
    }

    /// Counts something at a host that is over.
    pub fn uncount(&self, host: &LocalHost, count: Count) {
        host.host.stats.dec(self.worker, count);
    }

    pub fn stats(&self) -> &ClusterStats {
        &self.cluster.stats
    }

    /// Takes a new set of hosts. Connections to hosts that stay are kept; those to others end.
    pub fn set_hosts(&self, set: Arc<HostSet>) {
        if Arc::ptr_eq(&self.current.borrow(), &set) {
            return;
        }
        let mut hosts = self.hosts.borrow_mut();
        hosts.retain(|address, local| {
            let stays = set.all.iter().any(|h| h.address == *address && h.metadata == local.host.metadata)
                || self.cluster.makes_hosts();
            if !stays {
                local.close();
            }
            stays
        });
        *self.balancer.borrow_mut() = Balancer::new(self.cluster.lb_policy, set.clone());
        if let Some(size) = self.balancer.borrow().ring_size() {
            let mut gauges = self.ring.borrow_mut();
            let [all, fewest, most] = gauges.get_or_insert_with(|| {
                let scope = self.stats().scope.child("ring_hash_lb");
                ["size", "min_hashes_per_host", "max_hashes_per_host"].map(|name| scope.gauge(name))
            });
            all.set(size.all);
            fewest.set(size.fewest);
            most.set(size.most);
        }
        self.subsets.borrow_mut().clear();
        *self.current.borrow_mut() = set;
    }

    /// Chooses a host.
    pub fn pick(
        &self,
        hash: Option<u64>,
        avoid: &dyn Fn(&Host) -> bool,
        redraws: u32,
        avoid_priorities: &[u32],
        wanted: Option<&Metadata>,
    ) -> Option<Rc<LocalHost>> {
        let pick = Pick {
            hash,
            random: &|| fastrand::u64(..),
            active: &|host| self.hosts.borrow().get(&host.address).map_or(0, |l| l.active.get()),
            avoid,
            redraws,
            avoid_priorities,
        };
        if let Some(subsets) = &self.cluster.subsets {
            let set = self.current.borrow().clone();
            match subsets.choose(wanted, |criteria| set.all.iter().any(|host| subset::fits(host, criteria))) {
                Choice::All => {}
                Choice::Nobody => return None,
                Choice::Of(criteria) => return self.pick_of(&criteria, &set, &pick),
            }
        }
        let mut balancer = self.balancer.borrow_mut();
        if balancer.panics() {
            self.stats().lb_healthy_panic.inc();
        }
        let host = balancer.pick(&pick)?;
        Some(self.local_host(host))
    }

    fn pick_of(&self, criteria: &Criteria, set: &HostSet, pick: &Pick<'_>) -> Option<Rc<LocalHost>> {
        let mut subsets = self.subsets.borrow_mut();
        let balancer = subsets.entry(format!("{criteria:?}")).or_insert_with(|| {
            let hosts = set.all.iter().filter(|host| subset::fits(host, criteria)).cloned().collect();
            Balancer::new(self.cluster.lb_policy, Arc::new(HostSet::new(hosts, self.cluster.spread)))
        });
        let host = balancer.pick(pick)?;
        Some(self.local_host(host))
    }

    /// A host that no list names, for clusters that make theirs as requests come.
    ///
    /// # Errors
    /// The name can't be resolved, or the request doesn't say where it wants to go.
    pub async fn make_host(&self, wanted: &Wanted<'_>) -> Result<Rc<LocalHost>, ProxyError> {
        let (address, hostname) = match &self.cluster.discovery {
            Discovery::ForwardProxy(options) => {
                let default_port = if self.cluster.tls.is_some() { 443 } else { 80 };
                let (name, port) =
                    split_authority(wanted.authority, default_port).ok_or(ProxyError::NoHealthyUpstream)?;
                let found = self.names.resolve(name, port, options.family, options.refresh).await;
                (found.ok_or(ProxyError::NameNotResolved)?, name)
            }
            Discovery::OriginalDst(options) => {
                let named = options.header.as_ref().and(wanted.header).and_then(|h| h.parse().ok());
                let mut to = named.or(wanted.destination).ok_or(ProxyError::NoHealthyUpstream)?;
                if let Some(port) = options.port {
                    to.set_port(port);
                }
                (to, "")
            }
            Discovery::Static | Discovery::Eds { .. } | Discovery::Dns(_) => return Err(ProxyError::NoHealthyUpstream),
        };
        if self.hosts.borrow().len() > MADE_HOSTS {
            self.hosts.borrow_mut().retain(|_, local| local.active.get() > 0 || Rc::strong_count(local) > 1);
        }
        Ok(self.local_host(Arc::new(Host { hostname: hostname.into(), ..Host::at(Address::Ip(address)) })))
    }

    fn local_host(&self, host: Arc<Host>) -> Rc<LocalHost> {
        let mut hosts = self.hosts.borrow_mut();
        if let Some(local) = hosts.get(&host.address) {
            return local.clone();
        }
        let local = Rc::new(LocalHost { host: host.clone(), active: Cell::new(0), pools: RefCell::default() });
        hosts.insert(host.address.clone(), local.clone());
        local
    }

    /// The connections to a host in the protocol that suits the caller's.
    pub fn pool(&self, local: &LocalHost, downstream: Protocol, wanted: Option<&Override>) -> Rc<Pool> {
        let speaks = self.speaks(downstream);
        let names = self.alpn(speaks, wanted);
        let mut pools = local.pools.borrow_mut();
        if let Some((.., pool)) = pools.iter().find(|(kind, other, _)| *kind == speaks && other.as_ref() == names) {
            return pool.clone();
        }
        let names = names.cloned();
        let options = PoolOptions { speaks, ..self.cluster.pool.clone() };
        let limits = Box::new(Breakers { cluster: self.cluster.clone(), worker: self.worker });
        let pool =
            Pool::new(self.connector(&local.host, speaks, names.clone()), options, limits, self.stats().pool.clone());
        pools.push((speaks, names, pool.clone()));
        pool
    }

    fn speaks(&self, downstream: Protocol) -> Speaks {
        match self.cluster.protocol {
            UpstreamProtocol::Fixed(speaks) => speaks,
            UpstreamProtocol::AsDownstream if downstream.is_http2() => Speaks::Http2,
            UpstreamProtocol::AsDownstream => Speaks::Http1,
        }
    }

    /// The ALPN names to offer instead of the TLS context's own.
    fn alpn<'a>(&self, speaks: Speaks, wanted: Option<&'a Override>) -> Option<&'a Names> {
        wanted.filter(|_| !self.keeps_alpn).and_then(|wanted| wanted.names(speaks))
    }

    /// What TLS asks for on a connection of a request's own.
    pub fn tls_request(&self, downstream: Protocol, wanted: Option<&Override>) -> TlsRequest {
        let names = self.alpn(self.speaks(downstream), wanted);
        TlsRequest { alpn: names.map(|names| names.to_vec()).unwrap_or_default(), ..TlsRequest::default() }
    }

    fn connector(&self, host: &Arc<Host>, speaks: Speaks, names: Option<Names>) -> Connect {
        let (cluster, host) = (self.cluster.clone(), host.clone());
        let alpn_fallback: Vec<Vec<u8>> = match speaks {
            Speaks::Http1 => vec![b"http/1.1".to_vec()],
            Speaks::Http2 => vec![b"h2".to_vec()],
            Speaks::Negotiated => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        let alpn = names.map(|names| names.to_vec()).unwrap_or_default();
        let request = TlsRequest { alpn, alpn_fallback, ..TlsRequest::default() };
        let worker = self.worker;
        Box::new(move || {
            let (cluster, host, request) = (cluster.clone(), host.clone(), request.clone());
            Box::pin(async move {
                host.stats.inc(worker, Count::CxTotal);
                let established = establish(&cluster, &host, request).await;
                if established.is_err() {
                    host.stats.inc(worker, Count::CxConnectFail);
                }
                established
            })
        })
    }

    /// One more retry, if the circuit breaker allows it.
    pub fn retry_permit(&self, high_priority: bool) -> Option<Permit> {
        self.permit(high_priority, Resource::Retries)
    }

    pub fn permit(&self, high_priority: bool, what: Resource) -> Option<Permit> {
        let permit = self.cluster.breakers.acquire(self.worker, high_priority, what)?;
        Some(Box::new(permit))
    }

    /// Counts a redirect of upstream that could be followed here.
    pub fn count_redirect(&self, followed: bool) {
        let stats = self.stats();
        let counter = if followed { &stats.internal_redirect_succeeded } else { &stats.internal_redirect_failed };
        counter.inc();
    }

    /// Counts a try that will be tried again.
    pub fn count_retry(&self, result: &Result<Response<ResponseBody>, ProxyError>) {
        self.stats().rq_retry.inc();
        if let Ok(response) = result {
            self.stats().retry.count_status(response.status().as_u16());
            self.stats().retry_completed.inc();
        }
    }

    /// Counts a response's status, as a code and as a class; for all requests, and for those from inside
    /// (`internal`) or outside the network. Source: Envoy's `CodeStatsImpl::chargeResponseStat`.
    pub fn count_code(&self, code: u16, internal: bool) {
        let mut codes = self.codes.borrow_mut();
        if let Some((_, counters)) = codes.iter().find(|(known, _)| *known == (code, internal)) {
            counters.iter().for_each(Counter::inc);
            return;
        }
        let scope = &self.stats().scope;
        let origin = scope.child(if internal { "internal" } else { "external" });
        let [single, class] = code_counters(scope, code);
        let [origin_single, origin_class] = code_counters(&origin, code);
        let counters = [single, class, origin_single, origin_class, origin.counter("upstream_rq_completed")];
        counters.iter().for_each(Counter::inc);
        codes.push(((code, internal), counters));
    }
}

fn code_counters(scope: &Scope, code: u16) -> [Counter; 2] {
    let class = code / 100;
    let (single, group) = (format!("upstream_rq_{code}"), format!("upstream_rq_{class}xx"));
    [
        scope.tagged_counter(&single, "upstream_rq", "envoy_response_code", &code.to_string()),
        scope.tagged_counter(&group, "upstream_rq_xx", "envoy_response_code_class", &class.to_string()),
    ]
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        self.hosts.borrow().values().for_each(|local| local.close());
    }
}

impl LocalHost {
    fn close(&self) {
        self.pools.borrow().iter().for_each(|(.., pool)| pool.close());
    }
}

struct Breakers {
    cluster: Arc<Cluster>,
    worker: usize,
}

impl Limits for Breakers {
    fn connection(&self) -> Option<Permit> {
        let permit = self.cluster.breakers.acquire(self.worker, false, Resource::Connections)?;
        Some(Box::new(permit))
    }

    fn pending(&self) -> Option<Permit> {
        let permit = self.cluster.breakers.acquire(self.worker, false, Resource::Pending)?;
        Some(Box::new(permit))
    }
}

/// Connects to a host, with TLS if the cluster has it, which then asks for `request`; the connect timeout covers both.
///
/// # Errors
/// No connection within the time.
pub async fn establish(
    cluster: &Cluster,
    host: &Host,
    request: TlsRequest,
) -> Result<super::connect::Established, ConnectError> {
    let connecting = async {
        let mut made = connect(&host.address, &cluster.socket).await?;
        if let Some(tls) = cluster.tls_for(host) {
            let hostname = (!host.hostname.is_empty()).then(|| host.hostname.to_string());
            let request = TlsRequest { hostname, ..request };
            let (stream, info) =
                tls.connect(made.io, &request).await.map_err(|failure| ConnectError::Tls(failure.reason()))?;
            made.io = Box::new(stream);
            made.tls = Some(info);
        }
        for exchange in &cluster.exchanges {
            made.io = exchange.meet(made.io, made.tls.as_deref(), &made.told);
        }
        Ok(made)
    };
    match tokio::time::timeout(cluster.connect_timeout, connecting).await {
        Ok(done) => done,
        Err(_) => Err(ConnectError::Timeout),
    }
}
