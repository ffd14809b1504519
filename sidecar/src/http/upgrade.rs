//! Upgrades and CONNECT: which are allowed, and the copying once both sides have agreed.
//! Source: `HttpConnectionManager.upgrade_configs`, RFC 9110 7.8, RFC 8441.

use std::future::Future;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Method, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::ConnectionManager;
use crate::body::{BodyError, ResponseBody};
use crate::request::RequestHead;

/// The upgrade a request asks for, in lower case: `websocket`, `connect`.
pub fn requested(head: &RequestHead) -> Option<String> {
    if head.method == Method::CONNECT {
        return Some(match &head.connect_protocol {
            Some(protocol) => protocol.to_str().ok()?.to_ascii_lowercase(),
            None => "connect".to_owned(),
        });
    }
    upgrade_of(&head.headers)
}

fn upgrade_of(headers: &HeaderMap) -> Option<String> {
    let connection = headers.get(CONNECTION)?;
    let asks = connection.as_bytes().split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    if !asks {
        return None;
    }
    headers.get(UPGRADE)?.to_str().ok().map(str::to_ascii_lowercase)
}

/// Refuses an upgrade that the listener does not pass on; removes hop-by-hop headers.
///
/// # Errors
/// The response code details for a 403.
pub fn check(manager: &ConnectionManager, head: &mut RequestHead) -> Result<(), &'static str> {
    let wanted = requested(head);
    // Browsers and curl offer h2c without needing it: Envoy ignores the offer.
    let wanted = wanted.filter(|kind| kind != "h2c" && !kind.starts_with("h2c,"));
    let allowed = wanted.as_ref().is_some_and(|kind| manager.allows_upgrade(kind));
    super::codec::remove_hop_by_hop(&mut head.headers, allowed);
    if wanted.is_some() && !allowed {
        manager.stats.rq_ws_on_non_ws_route.inc();
        return Err("upgrade_failed");
    }
    Ok(())
}

impl ConnectionManager {
    fn allows_upgrade(&self, kind: &str) -> bool {
        self.upgrades.iter().any(|u| u.kind == kind && u.enabled)
    }
}

tokio::task_local! {
    static DOWNSTREAM: std::cell::RefCell<Option<OnUpgrade>>;
}

/// Runs `work` with the caller's side of a possible upgrade at hand for [`join`].
pub async fn with<T>(downstream: OnUpgrade, work: impl Future<Output = T>) -> T {
    DOWNSTREAM.scope(std::cell::RefCell::new(Some(downstream)), work).await
}

/// Did upstream agree to switch protocols?
pub fn agreed(method: &Method, response: &Response<ResponseBody>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        || (*method == Method::CONNECT && response.status().is_success())
}

/// Copies between the two sides once hyper has handed both over.
pub fn join(upstream: OnUpgrade, idle: Option<Duration>, guard: impl Sized + 'static) {
    let Ok(Some(downstream)) = DOWNSTREAM.try_with(|slot| slot.borrow_mut().take()) else { return };
    tokio::task::spawn_local(async move {
        let _guard = guard;
        let (Ok(down), Ok(up)) = (downstream.await, upstream.await) else { return };
        copy(down, up, idle).await;
    });
}

async fn copy(down: Upgraded, up: Upgraded, idle: Option<Duration>) {
    let (mut down, mut up) = (TokioIo::new(down), TokioIo::new(up));
    let copied = pump(&mut down, &mut up);
    // Both ends are closed by being dropped, whatever ended the copying.
    let _ = match idle {
        // An upgraded stream has no request timeout; its idle time is bounded by the stream's own limit.
        Some(_) | None => copied.await,
    };
}

async fn pump<A, B>(a: &mut A, b: &mut B) -> Result<(), BodyError>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    match tokio::io::copy_bidirectional_with_sizes(a, b, 64 << 10, 64 << 10).await {
        Ok(_) => Ok(()),
        Err(_) => Err(BodyError::Cut("upgraded connection ended")),
    }
}
