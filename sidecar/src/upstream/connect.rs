//! What making a connection yields or fails with. Plain TCP and Unix sockets are made here; TLS on
//! top of them is `tls::connect`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::error::{ProxyError, ResetReason};
use crate::io::Io;
use crate::net::Address;
use crate::observe::workload::Told;
use crate::stream::TlsInfo;

/// A connection ready for an application protocol.
pub struct Established {
    pub io: Box<dyn Io>,
    pub local: Option<SocketAddr>,
    pub tls: Option<Arc<TlsInfo>>,
    /// Who the other side says it is, ahead of the connection's bytes.
    pub told: Told,
}

impl Established {
    /// Did TLS agree on HTTP/2?
    pub fn negotiated_http2(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.alpn == "h2" || tls.alpn == "istio-h2")
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The connect timeout passed.
    Timeout,
    /// Refused, unreachable, or reset: the system's words.
    Refused(String),
    /// TLS failed: the words for `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    Tls(String),
    /// `max_connections` is reached.
    Overflow,
    /// More requests wait than `max_pending_requests`.
    PendingOverflow,
    /// The host was taken away meanwhile.
    HostGone,
}

impl From<ConnectError> for ProxyError {
    fn from(error: ConnectError) -> Self {
        let (reason, transport_failure) = match error {
            ConnectError::Timeout => (ResetReason::ConnectionTimeout, None),
            ConnectError::Refused(why) => {
                (ResetReason::RemoteConnectionFailure, Some(format!("delayed connect error: {why}")))
            }
            ConnectError::Tls(why) => (ResetReason::RemoteConnectionFailure, Some(why)),
            ConnectError::Overflow | ConnectError::PendingOverflow => (ResetReason::Overflow, None),
            ConnectError::HostGone => (ResetReason::LocalConnectionFailure, None),
        };
        ProxyError::Reset { reason, transport_failure }
    }
}

/// How a cluster wants its sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Where connections come from, one of the target's family if there is one, else the first.
    /// Source: `upstream_bind_config`, its `source_address` and `extra_source_addresses`.
    pub bind: Vec<SocketAddr>,
    /// Source: `upstream_connection_options.tcp_keepalive`.
    pub keepalive: Option<Keepalive>,
}

/// Zero or absent values are the system's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    pub probes: Option<u32>,
    pub time: Option<Duration>,
    pub interval: Option<Duration>,
}

/// Connects without TLS. The caller limits the time.
///
/// # Errors
/// Refused or unreachable.
pub async fn connect(address: &Address, options: &SocketOptions) -> Result<Established, ConnectError> {
    let connected = match address {
        Address::Ip(address) => tcp(*address, options).await.map(|stream| Established {
            local: stream.local_addr().ok(),
            io: Box::new(stream),
            tls: None,
            told: Told::default(),
        }),
        Address::Pipe(path) => UnixStream::connect(path.as_ref()).await.map(|stream| Established {
            io: Box::new(stream),
            local: None,
            tls: None,
            told: Told::default(),
        }),
    };
    connected.map_err(|error| ConnectError::Refused(words(&error)))
}

async fn tcp(address: SocketAddr, options: &SocketOptions) -> std::io::Result<TcpStream> {
    let bind = options.bind.iter().find(|bind| bind.is_ipv4() == address.is_ipv4()).or(options.bind.first());
    let stream = if bind.is_some() || options.keepalive.is_some() {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if let Some(bind) = bind {
            socket.bind(&(*bind).into())?;
        }
        if let Some(keepalive) = &options.keepalive {
            socket.set_tcp_keepalive(&keepalive.settings())?;
        }
        TcpSocket::from_std_stream(socket.into()).connect(address).await?
    } else {
        TcpStream::connect(address).await?
    };
    SockRef::from(&stream).set_tcp_nodelay(true)?;
    Ok(stream)
}

impl Keepalive {
    fn settings(&self) -> TcpKeepalive {
        let mut settings = TcpKeepalive::new();
        if let Some(time) = self.time {
            settings = settings.with_time(time);
        }
        if let Some(interval) = self.interval {
            settings = settings.with_interval(interval);
        }
        if let Some(probes) = self.probes {
            settings = settings.with_retries(probes);
        }
        settings
    }
}

/// An error as the C library words it, without Rust's "(os error N)".
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
