//! The request's head before any filter sees it: what is refused, what is rewritten, and what is set of the
//! caller's address, request id, span and client certificate. Which route it takes is decided after this.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};

use super::filter::{Exchange, FilterRequest, LocalReply};
use super::path::{self, PathVerdict};
use super::serve::Session;
use super::{StripPort, Underscores, codec, forwarded, request_id, via};
use crate::error::ResponseFlags;
use crate::request::RequestHead;
use crate::stream::Protocol;

/// Checks and rewrites the head before any filter sees it.
pub fn prepare(session: &Session, exchange: &Exchange, request: &mut FilterRequest) -> Result<(), Box<LocalReply>> {
    let manager = &session.manager;
    let head = &mut request.head;
    let refuse = |status: u16, body: &'static str, details: &'static str| {
        Box::new(LocalReply::new(status, body, details).flags(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR).closing())
    };
    if head.protocol == Protocol::Http10 {
        if !manager.http1.accept_http_10 {
            return Err(Box::new(LocalReply::new(426, "Upgrade Required", "low_version").closing()));
        }
        if head.authority.is_none() {
            head.authority = manager.http1.default_host_for_http_10.clone();
        }
    }
    if head.authority.as_ref().is_none_or(HeaderValue::is_empty) && head.method != Method::CONNECT {
        return Err(Box::new(LocalReply::new(400, "", "missing_host_header").closing()));
    }
    if head.headers.len() > manager.max_headers_count as usize {
        manager.stats.rq_too_large.inc();
        return Err(refuse(431, "Request Header Fields Too Large", "http1.too_many_headers"));
    }
    check_underscores(manager.underscores, &mut head.headers)
        .map_err(|()| refuse(400, "Bad Request", "http1.unexpected_underscore"))?;
    super::upgrade::from_extended_connect(head);
    // HTTP/2 requests with hop-by-hop headers were refused by the codec.
    if !session.http2 {
        let upgrades = super::upgrade::requested(head).is_some();
        codec::remove_hop_by_hop(&mut head.headers, upgrades);
    }
    normalise_host(manager.strip_port, manager.strip_trailing_dot, session, head);
    // The codec has told the caller to go on.
    if !manager.proxy_100_continue
        && head.headers.get(http::header::EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        head.headers.remove(http::header::EXPECT);
    }
    match path::apply(&manager.path, head) {
        PathVerdict::Forward => {}
        PathVerdict::Reject(details) => return Err(Box::new(LocalReply::new(400, "", details))),
        PathVerdict::Redirect(to) => {
            let mut reply = LocalReply::new(307, "", "path_normalization_redirect");
            if let Ok(to) = HeaderValue::from_str(&to) {
                reply.headers.insert(http::header::LOCATION, to);
            }
            return Err(Box::new(reply));
        }
    }
    let caller = forwarded::apply(
        &manager.forwarded,
        head,
        &session.connection.remote,
        session.connection.local.socket().map(|a| a.port()),
    );
    let stream = &exchange.stream;
    stream.internal.set(caller.internal);
    *stream.remote.borrow_mut() = caller.remote;
    request_id::apply(&manager.request_id, head, caller.edge);
    if let Some(tracer) = &manager.tracer
        && let Some(span) = tracer.begin(&manager.request_id, head, stream)
    {
        exchange.put(span);
    }
    if let Some(id) = head.headers.get(&request_id::X_REQUEST_ID).and_then(|v| v.to_str().ok()) {
        let _ = stream.request_id.set(id.to_owned());
    }
    super::xfcc::apply(&manager.xfcc, &mut head.headers, session.connection.tls.as_deref());
    if let Some(via) = &manager.via {
        via::append(&mut head.headers, via);
    }
    Ok(())
}

/// Names with `_` can be mistaken for their twins with `-` by applications.
fn check_underscores(action: Underscores, headers: &mut HeaderMap) -> Result<(), ()> {
    if action == Underscores::Allow {
        return Ok(());
    }
    let odd: Vec<HeaderName> = headers.keys().filter(|n| n.as_str().contains('_')).cloned().collect();
    match action {
        Underscores::Reject if !odd.is_empty() => Err(()),
        _ => {
            odd.iter().for_each(|name| {
                headers.remove(name);
            });
            Ok(())
        }
    }
}

fn normalise_host(strip: StripPort, strip_dot: bool, session: &Session, head: &mut RequestHead) {
    if strip == StripPort::Never && !strip_dot {
        return;
    }
    let host = head.authority_str();
    let (mut name, mut port) = match host.rfind(':') {
        Some(at) if !host[at..].contains(']') => (&host[..at], Some(&host[at..])),
        _ => (host, None),
    };
    if strip_dot {
        name = name.strip_suffix('.').unwrap_or(name);
    }
    let listener_port = session.connection.local.socket().map(|a| format!(":{}", a.port()));
    match strip {
        StripPort::Any => port = None,
        StripPort::Matching if port == listener_port.as_deref() => port = None,
        _ => {}
    }
    if let Ok(value) = HeaderValue::from_str(&format!("{name}{}", port.unwrap_or(""))) {
        head.authority = Some(value);
    }
}
