//! A trace's ids as they travel: B3 in one or several headers, and W3C's traceparent.
//! Source: the B3 specification; W3C Trace Context; Envoy's `SpanContextExtractor`.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::Side;

/// Which headers carry the ids. Source: `ZipkinConfig.trace_context_option`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    B3,
    /// B3 goes first, and W3C's headers are read and written as well.
    B3AndW3c,
}

const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const SINGLE: HeaderName = HeaderName::from_static("b3");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// One span's place in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    high: u64,
    low: u64,
    span: u64,
    parent: Option<u64>,
    /// Where the caller did not say, it is decided here.
    decided: bool,
    pub sampled: bool,
    /// It came in one `b3` header, and goes on as such.
    single: bool,
}

/// Headers that can't be read: as in Envoy, such a request is not traced, and they are passed on as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Context {
    /// A new trace. `headers` say in which form it is passed on.
    pub fn root(wide: bool, sampled: bool, headers: &HeaderMap) -> Self {
        let id = fastrand::u64(1..);
        let high = if wide { fastrand::u64(1..) } else { 0 };
        Context { high, low: id, span: id, parent: None, decided: true, sampled, single: headers.contains_key(SINGLE) }
    }

    /// The span below this one, and whether it is the caller's own (`shared`).
    pub fn child(self, side: Side, shared: bool, sampled: bool) -> (Self, bool) {
        let sampled = if self.decided { self.sampled } else { sampled };
        if side == Side::Server && shared {
            return (Context { sampled, decided: true, ..self }, true);
        }
        let (span, parent) = (fastrand::u64(1..), Some(self.span));
        (Context { span, parent, sampled, decided: true, ..self }, false)
    }

    /// What the caller sent; `None`: nothing. A traceparent that can't be read counts as none.
    ///
    /// # Errors
    /// B3 headers that can't be read.
    pub fn extract(headers: &HeaderMap, propagation: Propagation) -> Result<Option<Self>, Unreadable> {
        let text = |name: &HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
        if let Some(b3) = text(&SINGLE) {
            return if matches!(b3, "0" | "1" | "d") { Ok(None) } else { single(b3).map(Some).ok_or(Unreadable) };
        }
        if let (Some(trace), Some(span)) = (text(&TRACE_ID), text(&SPAN_ID)) {
            let sampled = Self::sampled_alone(headers);
            let parent = text(&PARENT_ID).filter(|parent| !parent.is_empty());
            let (high, low) = trace_ids(trace).ok_or(Unreadable)?;
            return Ok(Some(Context {
                high,
                low,
                span: id(span).ok_or(Unreadable)?,
                parent: parent.map(|parent| id(parent).ok_or(Unreadable)).transpose()?,
                decided: sampled.is_some(),
                sampled: sampled.unwrap_or(false),
                single: false,
            }));
        }
        Ok(match propagation {
            Propagation::B3 => None,
            Propagation::B3AndW3c => text(&TRACEPARENT).and_then(w3c),
        })
    }

    /// The caller's word on sampling, which may come without ids.
    pub fn sampled_alone(headers: &HeaderMap) -> Option<bool> {
        let text = |name: &HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
        match (text(&SAMPLED), text(&FLAGS), text(&SINGLE)) {
            (Some(sampled), ..) => Some(sampled == "1" || sampled.eq_ignore_ascii_case("true")),
            (None, Some("1"), _) => Some(true),
            (None, _, Some("0")) => Some(false),
            (None, _, Some("1" | "d")) => Some(true),
            _ => None,
        }
    }

    /// Writes the headers that the next one reads.
    pub fn inject(&self, headers: &mut HeaderMap, propagation: Propagation) {
        let mut set = |name: HeaderName, value: String| {
            // In place of the caller's: an id that came twice could be read either way.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        let flag = u8::from(self.sampled);
        if self.single {
            let parent = self.parent_id().map_or_else(String::new, |parent| format!("-{parent}"));
            set(SINGLE, format!("{}-{}-{flag}{parent}", self.trace_id(), self.span_id()));
        } else {
            set(TRACE_ID, self.trace_id());
            set(SPAN_ID, self.span_id());
            if let Some(parent) = self.parent_id() {
                set(PARENT_ID, parent);
            }
            set(SAMPLED, flag.to_string());
        }
        if propagation == Propagation::B3AndW3c {
            set(TRACEPARENT, format!("00-{:016x}{:016x}-{}-{flag:02x}", self.high, self.low, self.span_id()));
        }
        if self.parent.is_none() {
            headers.remove(PARENT_ID);
        }
    }

    /// 16 or 32 digits.
    pub fn trace_id(&self) -> String {
        match self.high {
            0 => format!("{:016x}", self.low),
            high => format!("{high:016x}{:016x}", self.low),
        }
    }

    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    pub fn parent_id(&self) -> Option<String> {
        self.parent.map(|id| format!("{id:016x}"))
    }
}

fn id(text: &str) -> Option<u64> {
    let legal = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    legal.then(|| u64::from_str_radix(text, 16).ok())?
}

fn trace_ids(text: &str) -> Option<(u64, u64)> {
    match text.len() {
        32 => Some((id(text.get(..16)?)?, id(text.get(16..)?)?)),
        _ => Some((0, id(text)?)),
    }
}

/// `trace-span`, `trace-span-sampled`, `trace-span-sampled-parent`.
fn single(text: &str) -> Option<Context> {
    let mut parts = text.split('-');
    let (high, low) = trace_ids(parts.next()?)?;
    let span = id(parts.next()?)?;
    let sampled = match parts.next() {
        None => None,
        Some("0") => Some(false),
        Some("1" | "d") => Some(true),
        Some(_) => return None,
    };
    let parent = match parts.next() {
        None => None,
        Some(parent) => Some(id(parent)?),
    };
    let decided = sampled.is_some();
    Some(Context { high, low, span, parent, decided, sampled: sampled.unwrap_or(false), single: true })
}

fn w3c(text: &str) -> Option<Context> {
    let mut parts = text.split('-');
    let version = parts.next()?;
    if version.len() != 2 || version == "ff" {
        return None;
    }
    let trace = parts.next().filter(|t| t.len() == 32)?;
    let (high, low) = trace_ids(trace)?;
    let span = id(parts.next()?)?;
    let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
    let real = (high, low) != (0, 0) && span != 0;
    real.then_some(Context { high, low, span, parent: None, decided: true, sampled: flags & 1 == 1, single: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &str)], expected: Result<Option<(&str, &str, bool)>, Unreadable>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let got = Context::extract(&map, Propagation::B3AndW3c);
        let got = got.map(|c| c.map(|c| (c.trace_id(), c.span_id(), c.sampled)));
        let expected = expected.map(|e| e.map(|(t, s, sampled)| (t.to_owned(), s.to_owned(), sampled)));
        assert_eq!(got, expected, "{headers:?}");
    }

    #[test]
    fn callers_headers() {
        const TRACE: &str = "463ac35c9f6413ad48485a3953bb6124";
        const SPAN: &str = "a2fb4a1d1a96d312";
        check(&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")], Ok(Some((TRACE, SPAN, true))));
        check(&[("x-b3-traceid", "xyz"), ("x-b3-spanid", SPAN)], Err(Unreadable));
        check(&[("b3", &format!("{SPAN}-{SPAN}-0"))], Ok(Some((SPAN, SPAN, false))));
        check(&[("b3", "0")], Ok(None));
        check(&[("b3", "nonsense")], Err(Unreadable));
        check(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))], Ok(Some((TRACE, SPAN, true))));
        check(&[("traceparent", &format!("00-{TRACE}-{SPAN}"))], Ok(None));
        check(&[], Ok(None));
    }

    #[test]
    fn what_is_injected_is_read_back_and_stands_there_once() {
        for single in [false, true] {
            let mut headers = HeaderMap::new();
            if single {
                headers.insert(SINGLE, HeaderValue::from_static("1"));
            } else {
                headers.insert(SAMPLED, HeaderValue::from_static("0"));
            }
            let (context, _) = Context::root(true, true, &headers).child(Side::Client, false, true);
            context.inject(&mut headers, Propagation::B3AndW3c);
            assert_eq!(Context::extract(&headers, Propagation::B3), Ok(Some(context)));
            assert_eq!(headers.len(), headers.keys().count());
        }
    }
}
