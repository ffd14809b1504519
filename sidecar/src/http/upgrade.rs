//! Upgrades and CONNECT: which are passed on, how each protocol asks for and grants one, and the tunnel that joins
//! both sides. Inside the proxy every upgrade looks as HTTP/1 writes it.
//! Source: `HttpConnectionManager.upgrade_configs`, `RouteAction.upgrade_configs`, RFC 9110 7.8, RFC 8441.

use std::rc::Rc;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{HeaderMap, Method, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::ConnectionManager;
use super::filter::Exchange;
use super::finish::Finish;
use crate::body::ResponseBody;
use crate::error::ResponseFlags;
use crate::io::Io;
use crate::request::RequestHead;
use crate::route::RouteAction;
use crate::tcp::connect::Held;
use crate::upstream::connect::Established;
use crate::upstream::pool::Active;

/// The upgrade a request asks for, in lower case: `websocket`, `connect`.
pub fn requested(head: &RequestHead) -> Option<String> {
    if head.method == Method::CONNECT {
        return Some("connect".to_owned());
    }
    let wanted = upgrade_of(&head.headers)?;
    // Browsers and curl offer h2c without needing it: Envoy ignores the offer.
    (wanted != "h2c" && !wanted.starts_with("h2c,")).then_some(wanted)
}

fn upgrade_of(headers: &HeaderMap) -> Option<String> {
    let connection = headers.get(CONNECTION)?;
    let asks = connection.as_bytes().split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    if !asks {
        return None;
    }
    headers.get(UPGRADE)?.to_str().ok().map(str::to_ascii_lowercase)
}

/// An extended CONNECT as HTTP/1 would ask for the same.
pub fn from_extended_connect(head: &mut RequestHead) {
    if let (Some(protocol), true) = (head.connect_protocol.clone(), head.method == Method::CONNECT) {
        head.method = Method::GET;
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(UPGRADE, protocol);
    }
}

/// The reverse, for HTTP/2 upstream.
pub fn to_extended_connect(head: &mut RequestHead) {
    if head.method != Method::CONNECT && upgrade_of(&head.headers).is_some() {
        head.connect_protocol = head.headers.remove(UPGRADE);
        head.headers.remove(CONNECTION);
        head.method = Method::CONNECT;
    }
}

/// Whether a kind of upgrade is passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Lower case.
    pub kind: String,
    pub enabled: bool,
    /// CONNECT ends here: upstream gets the bytes inside. Source: `connect_config`.
    pub terminate: bool,
}

/// An upgrade that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub terminate: bool,
}

/// Neither the route nor the listener passes this upgrade on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forbidden;

/// Asks the route, then the listener. `None`: the request wants no upgrade.
///
/// # Errors
/// The upgrade is not passed on: a 403.
pub fn admit(
    manager: &ConnectionManager,
    action: Option<&RouteAction>,
    head: &RequestHead,
) -> Result<Option<Admitted>, Forbidden> {
    let Some(wanted) = requested(head) else { return Ok(None) };
    let of_route = action.and_then(|action| action.upgrades.iter().find(|u| u.kind == wanted));
    match of_route.or_else(|| manager.upgrades.iter().find(|u| u.kind == wanted)) {
        Some(upgrade) if upgrade.enabled => {
            manager.stats.cx_upgrades_total.inc();
            Ok(Some(Admitted { terminate: upgrade.terminate }))
        }
        _ => {
            manager.stats.rq_ws_on_non_ws_route.inc();
            Err(Forbidden)
        }
    }
}

/// Did upstream agree?
pub fn is_granted(head: &RequestHead, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || head.method == Method::CONNECT && status.is_success()
}

/// Writes the agreement as the caller's protocol does.
pub fn grant(head: &RequestHead, response: &mut Response<ResponseBody>) {
    if head.protocol.is_http2() {
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(CONNECTION);
        response.headers_mut().remove(UPGRADE);
    } else if head.method != Method::CONNECT {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        if let Some(kind) = head.headers.get(UPGRADE) {
            headers.entry(UPGRADE).or_insert_with(|| kind.clone());
        }
        headers.entry(CONNECTION).or_insert(HeaderValue::from_static("upgrade"));
    }
}

/// Upstream's end of a tunnel.
pub enum Far {
    /// A request's stream, once the peer has switched.
    Stream(OnUpgrade),
    /// A connection of its own, and what it counts in.
    Connection(Box<Established>, Held),
}

/// An upgrade that upstream has agreed to.
pub struct Tunnel {
    pub downstream: OnUpgrade,
    pub far: Far,
}

impl Tunnel {
    /// Passes bytes until one side ends; the request is over then.
    pub fn open(self, exchange: Rc<Exchange>, finish: Finish) {
        tokio::task::spawn_local(async move {
            let manager = exchange.connection_manager.clone();
            let _active = Active::new(&manager.stats.cx_upgrades_active);
            self.pass(&exchange).await;
            drop(finish);
        });
    }

    async fn pass(self, exchange: &Exchange) {
        let Ok(downstream) = self.downstream.await else { return };
        let downstream = TokioIo::new(downstream);
        match self.far {
            Far::Stream(upstream) => {
                let Ok(upstream) = upstream.await else { return };
                join(downstream, TokioIo::new(upstream), exchange).await;
            }
            Far::Connection(upstream, held) => {
                join(downstream, upstream.io, exchange).await;
                drop(held);
            }
        }
    }
}

const BUFFER: usize = 16 << 10;

/// Whichever side ends first takes the other with it: an upgraded request has no half-closed state in HTTP/1.
async fn join(downstream: impl Io, upstream: impl Io, exchange: &Exchange) {
    let stream = &exchange.stream;
    let (mut from_caller, mut to_caller) = tokio::io::split(downstream);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let limits = exchange.limits();
    let up = copy(&mut from_caller, &mut to_upstream, |n| {
        stream.bytes_received.set(stream.bytes_received.get() + n);
        limits.touch();
    });
    let down = copy(&mut from_upstream, &mut to_caller, |n| {
        stream.bytes_sent.set(stream.bytes_sent.get() + n);
        limits.touch();
    });
    let (flags, details) = tokio::select! {
        () = up => (ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION, "downstream_remote_disconnect".to_owned()),
        () = down => (
            ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
            "upstream_reset_after_response_started{connection_termination}".to_owned(),
        ),
        passed = limits.hold(std::future::pending::<()>()) => match passed {
            Ok(()) => return,
            Err(passed) => {
                passed.count(&exchange.connection_manager.stats);
                (passed.error().flags(), passed.error().details().into_owned())
            }
        },
    };
    stream.add_flags(flags);
    stream.set_details(details);
    // The peers may be gone already.
    let _ = tokio::join!(to_caller.shutdown(), to_upstream.shutdown());
}

async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), passed: impl Fn(u64)) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok(n) = from.read(&mut buffer).await else { return };
        let Some(chunk) = buffer.get(..n).filter(|chunk| !chunk.is_empty()) else { return };
        if to.write_all(chunk).await.is_err() || to.flush().await.is_err() {
            return;
        }
        passed(n as u64);
    }
}
