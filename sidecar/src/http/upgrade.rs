//! Upgrades and CONNECT: which requests ask for one. None is passed on yet: `upgrade_configs` is refused.
//! Source: `HttpConnectionManager.upgrade_configs`, RFC 9110 7.8, RFC 8441.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Method};

use super::ConnectionManager;
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

/// Refuses an upgrade, since the listener passes none on; removes hop-by-hop headers.
///
/// # Errors
/// The response code details for a 403.
pub fn check(manager: &ConnectionManager, head: &mut RequestHead) -> Result<(), &'static str> {
    let wanted = requested(head);
    // Browsers and curl offer h2c without needing it: Envoy ignores the offer.
    let wanted = wanted.filter(|kind| kind != "h2c" && !kind.starts_with("h2c,"));
    super::codec::remove_hop_by_hop(&mut head.headers, false);
    if wanted.is_some() {
        manager.stats.rq_ws_on_non_ws_route.inc();
        return Err("upgrade_failed");
    }
    Ok(())
}
