//! x-request-id: made where it is missing, kept where it may be trusted, and the trace decision that
//! Envoy packs into its fifteenth character.
//! Source: Envoy's `UUIDRequestIDExtension`.

use http::header::{HeaderName, HeaderValue};

use crate::request::RequestHead;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A connection manager's rules. Source: `generate_request_id` (true), `preserve_external_request_id`,
/// `always_set_request_id_in_response`, `UuidRequestIdConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestIdRules {
    pub generate: bool,
    pub preserve_external: bool,
    pub always_in_response: bool,
    pub pack_trace_reason: bool,
    pub use_for_sampling: bool,
}

impl Default for RequestIdRules {
    fn default() -> Self {
        RequestIdRules {
            generate: true,
            preserve_external: false,
            always_in_response: false,
            pack_trace_reason: true,
            use_for_sampling: true,
        }
    }
}

/// Why a request is traced, as packed into its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceReason {
    NotTraced,
    Sampled,
    ServiceForced,
    ClientForced,
}

/// Where the reason stands in a UUID: the version digit.
const REASON_AT: usize = 14;

/// Gives the request an id if it needs one. `edge` says that the caller is outside.
pub fn apply(rules: &RequestIdRules, head: &mut RequestHead, edge: bool) {
    if !rules.generate {
        return;
    }
    let replace = edge && !rules.preserve_external;
    if replace || !head.headers.contains_key(X_REQUEST_ID) {
        let mut buffer = [0u8; 36];
        let id = uuid::Uuid::new_v4();
        let text = id.hyphenated().encode_lower(&mut buffer);
        if let Ok(value) = HeaderValue::from_str(text) {
            head.headers.insert(X_REQUEST_ID, value);
        }
    }
}

/// Reads the packed reason; `None` if the id is no UUID.
pub fn trace_reason(id: &str) -> Option<TraceReason> {
    if id.len() != 36 {
        return None;
    }
    Some(match id.as_bytes().get(REASON_AT)? {
        b'9' => TraceReason::Sampled,
        b'a' => TraceReason::ServiceForced,
        b'b' => TraceReason::ClientForced,
        _ => TraceReason::NotTraced,
    })
}

/// The id with another reason; `None` if it is no UUID.
pub fn with_trace_reason(id: &str, reason: TraceReason) -> Option<String> {
    if id.len() != 36 || !id.is_ascii() {
        return None;
    }
    let digit = match reason {
        TraceReason::NotTraced => "4",
        TraceReason::Sampled => "9",
        TraceReason::ServiceForced => "a",
        TraceReason::ClientForced => "b",
    };
    let mut id = id.to_owned();
    id.replace_range(REASON_AT..REASON_AT + 1, digit);
    Some(id)
}

/// A number below 10,000 from the id, so that all proxies sample the same requests.
pub fn sample_value(id: &str) -> Option<u64> {
    u64::from_str_radix(id.get(..8)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_packed_and_read() {
        let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
        assert_eq!(trace_reason(id), Some(TraceReason::NotTraced));
        for reason in [TraceReason::Sampled, TraceReason::ServiceForced, TraceReason::ClientForced] {
            assert_eq!(trace_reason(&with_trace_reason(id, reason).unwrap()), Some(reason));
        }
        assert_eq!(trace_reason("mine"), None);
        assert_eq!(sample_value(id), Some(0x0f8fad5b));
    }
}
