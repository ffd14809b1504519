//! Listeners: sockets, one for each worker, and what happens to a connection that comes in: its first bytes
//! are looked at, a filter chain is chosen, TLS is accepted, and the chain serves it.

pub mod config;
pub mod filter_chain;
pub mod filter_disabled;
mod inspect;

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, select};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use crate::error::ResponseFlags;
use crate::format::Context;
use crate::http::ConnectionManager;
use crate::io::{Io, Prefixed};
use crate::net::{Address, canonical};
use crate::observe::access_log::AccessLog;
use crate::observe::stats::{Counter, Gauge};
use crate::observe::workload::Told;
use crate::stream::{Connection, Metadata, Stream, TlsInfo};
use crate::tcp::{NetworkFilter, Report, TcpProxy};
use crate::tls::{DownstreamTls, SecretSlot};
use crate::upstream::pool::Active;
use crate::worker::Worker;
use filter_chain::{Facts, Match};
use filter_disabled::Disabled;

/// A compiled listener; immutable, shared by all workers.
/// Source: `envoy.config.listener.v3.Listener`.
pub struct Listener {
    pub name: String,
    pub address: SocketAddr,
    /// Listened on beside `address`.
    pub additional: Vec<SocketAddr>,
    /// Those of its addresses that take IPv4 too. Source: `SocketAddress.ipv4_compat`.
    pub ipv4_compat: Vec<SocketAddr>,
    pub backlog: i32,
    /// False: it only serves connections that another listener hands over by their original destination.
    pub binds: bool,
    /// Hands connections over to the listener of their original destination.
    pub use_original_dst: bool,
    pub filters: ListenerFilters,
    pub chains: Vec<FilterChain>,
    /// For connections that no chain asks for.
    pub default_chain: Option<FilterChain>,
    /// Told of each connection when it ends, those without a chain too.
    pub access_logs: Vec<AccessLog>,
    pub metadata: Arc<Metadata>,
    pub stats: ListenerStats,
}

/// Which looks are taken before a chain is chosen, in this order. Source: `Listener.listener_filters`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerFilters {
    pub original_dst: bool,
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `None`: the filter is not there.
    pub tls: Option<Disabled>,
    pub http: Option<Disabled>,
    /// 15 s; `None`: none.
    pub timeout: Option<Duration>,
    /// Serve what could not be told in time, instead of closing.
    pub continue_on_timeout: bool,
}

/// Source: `envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    pub allow_without: bool,
}

/// What a connection pins for its life.
pub struct FilterChain {
    pub name: Arc<str>,
    pub matches: Match,
    pub tls: Option<Arc<DownstreamTls>>,
    /// 15 s; `None`: none.
    pub handshake_timeout: Option<Duration>,
    pub filters: Vec<NetworkFilter>,
    pub serves: Serves,
}

/// The filter that ends a chain.
pub enum Serves {
    Http(Arc<ConnectionManager>),
    Tcp(TcpProxy),
    /// What comes goes back. Source: `envoy.filters.network.echo`.
    Echo,
    /// Says this, then ends. Source: `envoy.filters.network.direct_response`.
    Direct(Vec<u8>),
}

/// Handles to `listener.ADDRESS.*`.
pub struct ListenerStats {
    pub cx_total: Counter,
    pub cx_active: Gauge,
    pub cx_destroy: Counter,
    pub cx_transport_socket_connect_timeout: Counter,
    pub no_filter_chain_match: Counter,
    pub pre_cx_timeout: Counter,
}

impl Listener {
    fn all_chains(&self) -> impl Iterator<Item = &FilterChain> {
        self.chains.iter().chain(&self.default_chain)
    }

    /// The connection managers of all chains.
    pub fn managers(&self) -> impl Iterator<Item = &Arc<ConnectionManager>> {
        self.all_chains().filter_map(|chain| match &chain.serves {
            Serves::Http(manager) => Some(manager),
            Serves::Tcp(_) | Serves::Echo | Serves::Direct(_) => None,
        })
    }

    /// The secrets that must be fetched before handshakes can be made.
    pub fn secrets(&self) -> Vec<Arc<SecretSlot>> {
        self.all_chains().filter_map(|chain| chain.tls.as_ref()).flat_map(|tls| tls.wanted()).collect()
    }

    /// All that its TLS contexts use.
    pub fn all_secrets(&self) -> Vec<Arc<SecretSlot>> {
        let contexts = self.all_chains().filter_map(|chain| chain.tls.as_ref());
        contexts.flat_map(|tls| tls.common.slots().cloned()).collect()
    }

    /// All addresses it listens on.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        std::iter::once(self.address).chain(self.additional.iter().copied())
    }

    /// Makes one worker's sockets. All workers' sockets share the ports (SO_REUSEPORT).
    ///
    /// # Errors
    /// An address can't be bound.
    pub fn bind(&self) -> std::io::Result<Vec<StdListener>> {
        self.addresses().map(|address| self.bind_one(address)).collect()
    }

    fn bind_one(&self, address: SocketAddr) -> std::io::Result<StdListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(!self.ipv4_compat.contains(&address))?;
        }
        socket.bind(&address.into())?;
        socket.listen(self.backlog)?;
        Ok(socket.into())
    }
}

/// Accepting pauses for this long when descriptors run out, instead of spinning.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

thread_local! {
    static NEXT_CONNECTION: Cell<u64> = const { Cell::new(1) };
}

/// Accepts connections on this worker until the task is dropped.
pub async fn accept(listener: Arc<Listener>, socket: StdListener, worker: Rc<Worker>) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return warn!(listener = listener.name, "cannot listen: {error}"),
    };
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                tokio::task::spawn_local(serve(listener.clone(), stream, peer, worker.clone()));
            }
            Err(error) => {
                warn!(listener = listener.name, "cannot accept: {error}");
                tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
            }
        }
    }
}

/// What was learnt of a connection before its chain was chosen.
struct Arrived {
    io: Prefixed<TcpStream>,
    direct_remote: SocketAddr,
    remote: SocketAddr,
    direct_local: SocketAddr,
    local: SocketAddr,
    restored: bool,
    seen: inspect::Seen,
}

async fn serve(mut listener: Arc<Listener>, stream: TcpStream, peer: SocketAddr, worker: Rc<Worker>) {
    // A socket that can't have the option serves all the same, only later.
    let _ = SockRef::from(&stream).set_tcp_nodelay(true);
    let local = canonical(stream.local_addr().unwrap_or(listener.address));
    let mut arrived = Arrived {
        io: Prefixed::new(stream, Vec::new()),
        direct_remote: canonical(peer),
        remote: canonical(peer),
        direct_local: local,
        local,
        restored: false,
        seen: inspect::Seen::default(),
    };
    if listener.filters.original_dst || listener.use_original_dst {
        arrived.restore();
    }
    if listener.use_original_dst
        && arrived.restored
        && let Some(other) = worker.listener_at(arrived.local)
    {
        listener = other;
    }
    listener.stats.cx_total.inc();
    let _active = Active::new(&listener.stats.cx_active);
    if look(&listener, &mut arrived).await {
        match choose(&listener, &arrived) {
            Some(chain) => serve_chain(&listener, chain, arrived, worker).await,
            None => {
                listener.stats.no_filter_chain_match.inc();
                let stream = Stream::new(Rc::new(arrived.connection(&listener, "".into(), None).0));
                stream.add_flags(ResponseFlags::NO_ROUTE_FOUND);
                stream.set_details("filter_chain_not_found");
                listener.log(&stream);
            }
        }
    }
    listener.stats.cx_destroy.inc();
}

impl Listener {
    fn log(&self, stream: &Stream) {
        stream.end.set(Some(Instant::now()));
        self.access_logs.iter().for_each(|log| log.write(&Context::of(stream)));
    }
}

impl Arrived {
    /// What is known of the connection, and its bytes.
    fn connection(
        self,
        listener: &Listener,
        filter_chain: Arc<str>,
        tls: Option<Arc<TlsInfo>>,
    ) -> (Connection, Prefixed<TcpStream>) {
        let connection = Connection {
            id: NEXT_CONNECTION.replace(NEXT_CONNECTION.get() + 1),
            start: Instant::now(),
            direct_remote: Address::Ip(self.direct_remote),
            remote: Address::Ip(self.remote),
            direct_local: Address::Ip(self.direct_local),
            local: Address::Ip(self.local),
            local_restored: self.restored,
            transport_protocol: if tls.is_some() { "tls" } else { "raw_buffer" },
            tls,
            listener_metadata: listener.metadata.clone(),
            filter_chain,
            inspected_sni: self.seen.server_name,
            told: Told::default(),
            termination_details: RefCell::default(),
            transport_failure: RefCell::default(),
            kept: Default::default(),
        };
        (connection, self.io)
    }

    /// The destination that the caller wanted, where iptables sent the connection here.
    fn restore(&mut self) {
        let socket = SockRef::from(self.io.get_ref());
        let original = match self.direct_local {
            SocketAddr::V4(_) => socket.original_dst_v4(),
            SocketAddr::V6(_) => socket.original_dst_v6(),
        };
        if let Some(original) = original.ok().and_then(|address| address.as_socket()) {
            self.local = canonical(original);
            self.restored = self.local != self.direct_local;
        }
    }
}

/// Lets the listener filters look. False: the connection must end.
async fn look(listener: &Listener, arrived: &mut Arrived) -> bool {
    let filters = &listener.filters;
    let none = filters.tls.is_none() && filters.http.is_none();
    if filters.proxy_protocol.is_none() && none {
        return true;
    }
    let looking = look_at(filters, arrived);
    match tokio::time::timeout(filters.timeout.unwrap_or(Duration::MAX), looking).await {
        Ok(goes_on) => goes_on,
        Err(_) => {
            listener.stats.pre_cx_timeout.inc();
            filters.continue_on_timeout
        }
    }
}

async fn look_at(filters: &ListenerFilters, arrived: &mut Arrived) -> bool {
    if let Some(proxy) = filters.proxy_protocol {
        match inspect::proxy_protocol(&mut arrived.io).await {
            Ok(None) => {}
            Ok(Some((from, to))) => {
                arrived.restored = to != arrived.direct_local;
                (arrived.remote, arrived.local) = (from, to);
            }
            Err(inspect::NoHeader::Absent) if proxy.allow_without => {}
            Err(_) => return false,
        }
    }
    let port = arrived.local.port();
    let looks = |filter: &Option<Disabled>| filter.as_ref().is_some_and(|disabled| !disabled.at(port));
    if looks(&filters.tls) {
        let Some(seen) = inspect::tls(&mut arrived.io).await else { return false };
        arrived.seen = seen;
    }
    if looks(&filters.http) && !arrived.seen.tls {
        let Some(found) = inspect::http(&mut arrived.io).await else { return false };
        arrived.seen.protocols.extend(found.map(str::to_owned));
    }
    true
}

fn choose<'a>(listener: &'a Listener, arrived: &Arrived) -> Option<&'a FilterChain> {
    if let ([only], None) = (listener.chains.as_slice(), &listener.default_chain)
        && only.matches == Match::default()
    {
        return Some(only);
    }
    let facts = Facts {
        local: arrived.local,
        remote: arrived.remote,
        direct_remote: arrived.direct_remote,
        server_name: &arrived.seen.server_name,
        transport: if arrived.seen.tls { "tls" } else { "raw_buffer" },
        protocols: &arrived.seen.protocols,
    };
    let found = filter_chain::choose(listener.chains.iter().map(|chain| &chain.matches), &facts);
    found.and_then(|at| listener.chains.get(at)).or(listener.default_chain.as_ref())
}

async fn serve_chain(listener: &Listener, chain: &FilterChain, arrived: Arrived, worker: Rc<Worker>) {
    let (mut connection, io) = arrived.connection(listener, chain.name.clone(), None);
    let (unread, stream) = io.into_parts();
    let io: Box<dyn Io> = match unread.is_empty() {
        true => Box::new(stream),
        false => Box::new(Prefixed::new(stream, unread)),
    };
    let io = match &chain.tls {
        None => io,
        Some(tls) => {
            let Some((io, info)) = handshake(listener, chain, tls, io).await else { return };
            connection.transport_protocol = "tls";
            connection.tls = info;
            io
        }
    };
    let stream = Rc::new(Stream::new(Rc::new(connection)));
    let mut reports = Vec::new();
    let begun = chain.filters.iter().try_fold(io, |io, filter| filter.begin(io, &stream, &mut reports));
    if let Some(io) = begun {
        let served = pin!(chain.serves.serve(io, &stream, worker));
        match reports.as_slice() {
            [] => served.await,
            reports => {
                select(served, join_all(reports.iter().map(Report::run))).await;
            }
        }
    }
    reports.into_iter().for_each(Report::end);
    listener.log(&stream);
}

impl Serves {
    async fn serve(&self, io: Box<dyn Io>, stream: &Rc<Stream>, worker: Rc<Worker>) {
        match self {
            Serves::Http(manager) => {
                crate::http::serve::serve(manager.clone(), io, stream.connection.clone(), worker).await;
            }
            Serves::Tcp(proxy) => proxy.serve(io, stream.clone(), &worker).await,
            // A peer that breaks off is its own affair.
            Serves::Echo => {
                let (mut from, mut to) = tokio::io::split(io);
                let _ = tokio::io::copy(&mut from, &mut to).await;
            }
            Serves::Direct(text) => {
                let mut io = io;
                let _ = io.write_all(text).await;
                let _ = io.shutdown().await;
            }
        }
    }
}

async fn handshake(
    listener: &Listener,
    chain: &FilterChain,
    tls: &DownstreamTls,
    io: Box<dyn Io>,
) -> Option<(Box<dyn Io>, Option<Arc<TlsInfo>>)> {
    let limit = chain.handshake_timeout.unwrap_or(Duration::MAX);
    match tokio::time::timeout(limit, tls.accept(io)).await {
        Ok(Ok((stream, info))) => Some((Box::new(stream), Some(info))),
        // The failure has been counted by TLS itself.
        Ok(Err(_)) => None,
        Err(_) => {
            listener.stats.cx_transport_socket_connect_timeout.inc();
            None
        }
    }
}
