//! Trace context on the wire: B3 in many headers or in one, and W3C `traceparent`.
//! Source: the B3 propagation specification, W3C Trace Context level 1, Envoy's `SpanContextExtractor`.

use http::header::{HeaderMap, HeaderName, HeaderValue};

const B3: HeaderName = HeaderName::from_static("b3");
const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Where a span stands in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// 128 bits, or 64 where the upper half is 0.
    pub trace: u128,
    pub span: u64,
    pub parent: Option<u64>,
    pub sampled: bool,
}

impl SpanContext {
    /// The first span of a trace. Its trace id's lower half is its own id, as Envoy makes it.
    pub fn root(long: bool, sampled: bool) -> Self {
        let span = fastrand::u64(1..);
        let high = if long { fastrand::u64(1..) } else { 0 };
        SpanContext { trace: (u128::from(high) << 64) | u128::from(span), span, parent: None, sampled }
    }

    /// A span below this one.
    #[must_use]
    pub fn child(&self) -> Self {
        SpanContext { span: fastrand::u64(1..), parent: Some(self.span), ..*self }
    }

    /// 32 hex digits, or 16 for a short id.
    pub fn trace_hex(&self) -> String {
        if self.trace >> 64 == 0 { format!("{:016x}", self.trace) } else { format!("{:032x}", self.trace) }
    }
}

/// What the caller said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extracted {
    /// No span to continue; perhaps a word about sampling. A `traceparent` that can't be read counts as none.
    Nothing { sampled: Option<bool>, single: bool },
    /// `sampled` is `None` where the caller left it open.
    Span { context: SpanContext, sampled: Option<bool>, single: bool },
    /// Headers that can't be read: such a request is not traced at all.
    Invalid,
}

/// Reads the caller's context; `w3c` says that `traceparent` counts where there is no B3.
pub fn extract(headers: &HeaderMap, w3c: bool) -> Extracted {
    let text = |name: &HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    if let Some(b3) = text(&B3) {
        return single(b3);
    }
    let sampled = match (text(&FLAGS), text(&SAMPLED)) {
        (Some("1"), _) => Some(true),
        (_, Some(word)) => Some(matches!(word, "1" | "true")),
        _ => None,
    };
    if let (Some(trace), Some(span)) = (text(&TRACE_ID), text(&SPAN_ID)) {
        let parent = text(&PARENT_ID).filter(|p| !p.is_empty());
        return spell(trace, span, parent, sampled, false);
    }
    match text(&TRACEPARENT) {
        Some(parent) if w3c && sampled.is_none() => traceparent(parent),
        _ => Extracted::Nothing { sampled, single: false },
    }
}

fn single(b3: &str) -> Extracted {
    let word = |word: &str| match word {
        "0" => Some(false),
        "1" | "d" => Some(true),
        _ => None,
    };
    if let Some(sampled) = word(b3) {
        return Extracted::Nothing { sampled: Some(sampled), single: true };
    }
    let mut parts = b3.split('-');
    let (Some(trace), Some(span)) = (parts.next(), parts.next()) else { return Extracted::Invalid };
    let sampled = match parts.next() {
        None => None,
        Some(part) => match word(part) {
            Some(sampled) => Some(sampled),
            None => return Extracted::Invalid,
        },
    };
    let parent = parts.next();
    if parts.next().is_some() { Extracted::Invalid } else { spell(trace, span, parent, sampled, true) }
}

fn spell(trace: &str, span: &str, parent: Option<&str>, sampled: Option<bool>, single: bool) -> Extracted {
    let trace = hex(trace, &[16, 32]);
    let span = hex(span, &[16]);
    let parent = parent.map(|p| hex(p, &[16]));
    match (trace, span, parent) {
        (_, _, Some(None)) => Extracted::Invalid,
        (Some(trace), Some(span), parent) => {
            let parent = parent.flatten().map(|p| p as u64);
            let context = SpanContext { trace, span: span as u64, parent, sampled: sampled.unwrap_or(false) };
            Extracted::Span { context, sampled, single }
        }
        _ => Extracted::Invalid,
    }
}

fn traceparent(value: &str) -> Extracted {
    const NOTHING: Extracted = Extracted::Nothing { sampled: None, single: false };
    let parts: Vec<&str> = value.split('-').collect();
    let [version, trace, span, flags, ..] = parts.as_slice() else { return NOTHING };
    // Version 00 has four fields; later ones may have more.
    if *version == "ff" || hex(version, &[2]).is_none() || (*version == "00" && parts.len() != 4) {
        return NOTHING;
    }
    match (hex(trace, &[32]), hex(span, &[16]), hex(flags, &[2])) {
        (Some(trace), Some(span), Some(flags)) if trace != 0 && span != 0 => {
            let sampled = flags & 1 == 1;
            let context = SpanContext { trace, span: span as u64, parent: None, sampled };
            Extracted::Span { context, sampled: Some(sampled), single: false }
        }
        _ => NOTHING,
    }
}

fn hex(text: &str, lengths: &[usize]) -> Option<u128> {
    let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
    (digits && lengths.contains(&text.len())).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// Writes the context for the next hop, in the form in which it came.
pub fn inject(headers: &mut HeaderMap, context: &SpanContext, single: bool, w3c: bool) {
    let mut put = |name: HeaderName, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    };
    let (trace, span, flag) = (context.trace_hex(), context.span, u8::from(context.sampled));
    if single {
        let parent = context.parent.map_or_else(String::new, |p| format!("-{p:016x}"));
        put(B3, format!("{trace}-{span:016x}-{flag}{parent}"));
    } else {
        put(TRACE_ID, trace);
        put(SPAN_ID, format!("{span:016x}"));
        if let Some(parent) = context.parent {
            put(PARENT_ID, format!("{parent:016x}"));
        }
        put(SAMPLED, flag.to_string());
    }
    if w3c {
        put(TRACEPARENT, format!("00-{:032x}-{span:016x}-{flag:02x}", context.trace));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x463a_c35c_9f64_13ad_4848_5a39_53bb_6124;
    const SPAN: u64 = 0xa2fb_4a1d_1a96_d312;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn span(parent: Option<u64>, sampled: Option<bool>, single: bool) -> Extracted {
        let context = SpanContext { trace: TRACE, span: SPAN, parent, sampled: sampled.unwrap_or(false) };
        Extracted::Span { context, sampled, single }
    }

    fn check(pairs: &[(&'static str, &str)], expected: Extracted) {
        assert_eq!(extract(&headers(pairs), true), expected, "{pairs:?}");
    }

    #[test]
    fn contexts_are_read() {
        let (trace, own) = ("463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312");
        check(&[], Extracted::Nothing { sampled: None, single: false });
        check(&[("x-b3-sampled", "0")], Extracted::Nothing { sampled: Some(false), single: false });
        check(&[("b3", "1")], Extracted::Nothing { sampled: Some(true), single: true });
        check(&[("x-b3-traceid", trace), ("x-b3-spanid", own)], span(None, None, false));
        check(&[("x-b3-traceid", trace), ("x-b3-spanid", own), ("x-b3-sampled", "0")], span(None, Some(false), false));
        check(&[("x-b3-traceid", trace), ("x-b3-spanid", own), ("x-b3-flags", "1")], span(None, Some(true), false));
        check(&[("x-b3-traceid", "zz"), ("x-b3-spanid", own)], Extracted::Invalid);
        let single = format!("{trace}-{own}-1-0000000000000007");
        check(&[("b3", &single)], span(Some(7), Some(true), true));
        check(&[("b3", "nonsense")], Extracted::Invalid);
        let parent = format!("00-{trace}-{own}-01");
        check(&[("traceparent", &parent)], span(None, Some(true), false));
        check(&[("traceparent", "00-1-2-3")], Extracted::Nothing { sampled: None, single: false });
    }

    #[test]
    fn what_is_written_is_read_again() {
        for single in [false, true] {
            let context = SpanContext { sampled: true, ..SpanContext::root(true, true).child() };
            let mut headers = HeaderMap::new();
            inject(&mut headers, &context, single, true);
            assert_eq!(extract(&headers, false), Extracted::Span { context, sampled: Some(true), single });
        }
    }
}
