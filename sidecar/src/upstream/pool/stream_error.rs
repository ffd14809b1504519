//! What a failed stream or body means to its request, from the error that hyper gives.

use crate::body::BodyError;
use crate::error::{ProxyError, ResetReason};

/// What a failed stream means, from hyper's error.
pub fn stream_error(error: &hyper::Error) -> ProxyError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return http2_error(h2);
        }
        if let Some(BodyError::Proxy(inner)) = cause.downcast_ref::<BodyError>() {
            return inner.clone();
        }
        match cause.downcast_ref::<BodyError>() {
            Some(BodyError::Transport(error)) if breaks_protocol(error) => return ProxyError::DownstreamProtocol,
            Some(_) => return ProxyError::DownstreamGone,
            None => {}
        }
        source = cause.source();
    }
    if error.is_parse() || error.is_parse_status() || error.is_parse_too_large() {
        return ProxyError::reset(ResetReason::ProtocolError);
    }
    ProxyError::reset(ResetReason::ConnectionTermination)
}

/// Did the caller's body break HTTP/1's rules (a chunk's length that is none)?
fn breaks_protocol(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|s| s.downcast_ref::<std::io::Error>());
    source.is_some_and(|e| matches!(e.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData))
}

/// Why a response's body ended early. A body in HTTP/1 that stops before its end breaks the protocol.
pub fn body_error(error: &hyper::Error) -> ProxyError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && matches!(
                io.kind(),
                std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData
            )
        {
            return ProxyError::reset(ResetReason::ProtocolError);
        }
        source = cause.source();
    }
    if error.is_incomplete_message() {
        return ProxyError::reset(ResetReason::ProtocolError);
    }
    stream_error(error)
}

fn http2_error(error: &h2::Error) -> ProxyError {
    let reason = match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => ResetReason::RemoteRefusedStream,
        Some(h2::Reason::PROTOCOL_ERROR) if !error.is_remote() => ResetReason::ProtocolError,
        _ if error.is_reset() && error.is_remote() => ResetReason::RemoteReset,
        // Only streams that the peer says it has not begun end so.
        _ if error.is_go_away() && error.is_remote() => ResetReason::RemoteRefusedStream,
        _ if error.is_go_away() || error.is_io() => ResetReason::ConnectionTermination,
        _ if error.is_reset() => ResetReason::LocalReset,
        _ => ResetReason::ConnectionTermination,
    };
    ProxyError::reset(reason)
}
