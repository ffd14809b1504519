//! Listeners: sockets, one for each worker, and what happens to a connection that comes in.

pub mod config;

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use crate::http::ConnectionManager;
use crate::io::Io;
use crate::net::{Address, canonical};
use crate::observe::stats::{Counter, Gauge};
use crate::stream::{Connection, TlsInfo};
use crate::tls::DownstreamTls;
use crate::upstream::pool::Active;
use crate::worker::Worker;

/// A compiled listener; immutable, shared by all workers.
/// Source: `envoy.config.listener.v3.Listener`.
pub struct Listener {
    pub name: String,
    pub address: SocketAddr,
    pub backlog: i32,
    pub chain: FilterChain,
    pub stats: ListenerStats,
}

/// What a connection pins for its life.
pub struct FilterChain {
    pub tls: Option<Arc<DownstreamTls>>,
    /// 15 s; `None`: none.
    pub handshake_timeout: Option<Duration>,
    pub manager: Arc<ConnectionManager>,
}

/// Handles to `listener.ADDRESS.*`.
pub struct ListenerStats {
    pub cx_total: Counter,
    pub cx_active: Gauge,
    pub cx_destroy: Counter,
    pub cx_transport_socket_connect_timeout: Counter,
}

impl Listener {
    /// The connection managers of all chains.
    pub fn managers(&self) -> impl Iterator<Item = &Arc<ConnectionManager>> {
        std::iter::once(&self.chain.manager)
    }

    /// The secrets that must be fetched before handshakes can be made.
    pub fn secrets(&self) -> Vec<Arc<crate::tls::SecretSlot>> {
        self.chain.tls.iter().flat_map(|tls| tls.wanted()).collect()
    }

    /// Makes one worker's socket. All workers' sockets share the port (SO_REUSEPORT).
    ///
    /// # Errors
    /// The address can't be bound.
    pub fn bind(&self) -> std::io::Result<StdListener> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&self.address.into())?;
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

async fn serve(listener: Arc<Listener>, stream: TcpStream, peer: SocketAddr, worker: Rc<Worker>) {
    listener.stats.cx_total.inc();
    let _active = Active::new(&listener.stats.cx_active);
    // A socket that can't have the option serves all the same, only later.
    let _ = SockRef::from(&stream).set_tcp_nodelay(true);
    let local = stream.local_addr().unwrap_or(listener.address);
    let chain = &listener.chain;
    let secured = match &chain.tls {
        None => Some((Box::new(stream) as Box<dyn Io>, None)),
        Some(tls) => handshake(&listener, tls, stream).await,
    };
    if let Some((io, tls)) = secured {
        let connection = Rc::new(connection(canonical(peer), canonical(local), tls));
        crate::http::serve::serve(chain.manager.clone(), io, connection, worker).await;
    }
    listener.stats.cx_destroy.inc();
}

async fn handshake(
    listener: &Listener,
    tls: &DownstreamTls,
    stream: TcpStream,
) -> Option<(Box<dyn Io>, Option<Arc<TlsInfo>>)> {
    let limit = listener.chain.handshake_timeout.unwrap_or(Duration::MAX);
    match tokio::time::timeout(limit, tls.accept(stream)).await {
        Ok(Ok((stream, info))) => Some((Box::new(stream), Some(info))),
        // The failure has been counted by TLS itself.
        Ok(Err(_)) => None,
        Err(_) => {
            listener.stats.cx_transport_socket_connect_timeout.inc();
            None
        }
    }
}

fn connection(peer: SocketAddr, local: SocketAddr, tls: Option<Arc<TlsInfo>>) -> Connection {
    Connection {
        id: NEXT_CONNECTION.replace(NEXT_CONNECTION.get() + 1),
        start: Instant::now(),
        direct_remote: Address::Ip(peer),
        remote: Address::Ip(peer),
        direct_local: Address::Ip(local),
        local: Address::Ip(local),
        local_restored: false,
        transport_protocol: if tls.is_some() { "tls" } else { "raw_buffer" },
        tls,
        inspected_sni: String::new(),
        termination_details: RefCell::default(),
        transport_failure: RefCell::default(),
    }
}
