//! Upgrades: which requests ask for one, which are passed on, and the joining of both sides. CONNECT is not
//! passed on yet.
//! Source: `HttpConnectionManager.upgrade_configs`, RFC 9110 7.8, RFC 8441.

use std::sync::Arc;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Method};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::ConnectionManager;
use crate::request::RequestHead;
use crate::upstream::pool::Active;

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

/// Whether a kind of upgrade is passed on, unless a route says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Lower case.
    pub kind: String,
    pub enabled: bool,
}

/// Refuses upgrades that the listener does not pass on; removes hop-by-hop headers.
///
/// # Errors
/// The response code details for a 403.
pub fn check(manager: &ConnectionManager, head: &mut RequestHead) -> Result<(), &'static str> {
    let wanted = requested(head);
    // Browsers and curl offer h2c without needing it: Envoy ignores the offer.
    let wanted = wanted.filter(|kind| kind != "h2c" && !kind.starts_with("h2c,"));
    let allowed = |kind: &String| manager.upgrades.iter().any(|u| u.enabled && u.kind == *kind);
    let passes = wanted.as_ref().is_some_and(allowed) && !head.protocol.is_http2();
    super::codec::remove_hop_by_hop(&mut head.headers, passes);
    if wanted.is_some() && !passes {
        manager.stats.rq_ws_on_non_ws_route.inc();
        return Err("upgrade_failed");
    }
    Ok(())
}

/// Joins both sides once each has switched, until one of them ends.
pub fn join(manager: Arc<ConnectionManager>, downstream: OnUpgrade, upstream: OnUpgrade) {
    tokio::task::spawn_local(async move {
        manager.stats.cx_upgrades_total.inc();
        let _active = Active::new(&manager.stats.cx_upgrades_active);
        if let (Ok(downstream), Ok(upstream)) = tokio::join!(downstream, upstream) {
            let (mut downstream, mut upstream) = (TokioIo::new(downstream), TokioIo::new(upstream));
            // Whichever side breaks off, the other is closed with it.
            let _ = tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await;
        }
    });
}
