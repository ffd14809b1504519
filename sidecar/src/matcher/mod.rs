//! Matchers of strings, headers, query parameters, metadata and chances. Pure; compiled once in `config`.

pub mod config;
mod metadata;

use regex::Regex;

use crate::request::RequestHead;

pub use metadata::{JsonMatcher, MetadataMatcher};

/// Source: `envoy.type.matcher.v3.StringMatcher`.
#[derive(Clone, Debug)]
pub enum StringMatcher {
    Exact(String),
    ExactIgnoreCase(String),
    Prefix(String, bool),
    Suffix(String, bool),
    Contains(String, bool),
    /// The whole string must match.
    Regex(Regex),
}

impl StringMatcher {
    pub fn matches(&self, text: &str) -> bool {
        match self {
            StringMatcher::Exact(want) => text == want,
            StringMatcher::ExactIgnoreCase(want) => text.eq_ignore_ascii_case(want),
            StringMatcher::Prefix(want, false) => text.starts_with(want.as_str()),
            StringMatcher::Suffix(want, false) => text.ends_with(want.as_str()),
            StringMatcher::Contains(want, false) => text.contains(want.as_str()),
            StringMatcher::Prefix(want, true) => text.get(..want.len()).is_some_and(|t| t.eq_ignore_ascii_case(want)),
            StringMatcher::Suffix(want, true) => {
                let at = text.len().checked_sub(want.len());
                at.and_then(|at| text.get(at..)).is_some_and(|t| t.eq_ignore_ascii_case(want))
            }
            StringMatcher::Contains(want, true) => text.to_ascii_lowercase().contains(&want.to_ascii_lowercase()),
            StringMatcher::Regex(regex) => regex.is_match(text),
        }
    }
}

/// What a header's value must be.
#[derive(Clone, Debug)]
pub enum ValueMatcher {
    String(StringMatcher),
    /// A whole number from the first up to, not including, the second.
    Range(i64, i64),
    Present(bool),
}

/// Source: `envoy.config.route.v3.HeaderMatcher`.
#[derive(Clone, Debug)]
pub struct HeaderMatcher {
    /// Lower case.
    pub name: String,
    pub value: ValueMatcher,
    pub invert: bool,
    pub missing_is_empty: bool,
}

impl HeaderMatcher {
    pub fn matches(&self, head: &RequestHead) -> bool {
        self.matches_value(head.header(&self.name).as_deref())
    }

    /// The same where one of a header's values is enough, so that none hides behind another.
    /// Source: Envoy's `rbac_match_headers_individually`.
    pub fn matches_any(&self, head: &RequestHead) -> bool {
        let mut values = head.headers.get_all(&self.name).iter();
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => {
                let one = |value: &http::HeaderValue| self.matches_value(Some(value.as_bytes())) != self.invert;
                head.headers.get_all(&self.name).iter().any(one) != self.invert
            }
            _ => self.matches(head),
        }
    }

    /// The same for a map without pseudo-headers (responses).
    pub fn matches_map(&self, headers: &http::HeaderMap) -> bool {
        self.matches_value(crate::request::joined(headers, &self.name).as_deref())
    }

    /// `value` is all values joined by commas; `None`: the header is absent.
    pub fn matches_value(&self, value: Option<&[u8]>) -> bool {
        if let ValueMatcher::Present(want) = self.value {
            return (value.is_some() == want) != self.invert;
        }
        let value = match value {
            Some(value) => value,
            None if self.missing_is_empty => b"",
            // An absent header matches nothing, inverted or not.
            None => return false,
        };
        let text = String::from_utf8_lossy(value);
        let matched = match &self.value {
            ValueMatcher::String(matcher) => matcher.matches(&text),
            ValueMatcher::Range(low, high) => text.parse::<i64>().is_ok_and(|n| (*low..*high).contains(&n)),
            ValueMatcher::Present(_) => true,
        };
        matched != self.invert
    }
}

/// Source: `envoy.config.route.v3.QueryParameterMatcher`.
#[derive(Clone, Debug)]
pub struct QueryMatcher {
    pub name: String,
    /// `None`: being there is enough.
    pub value: Option<StringMatcher>,
    /// The parameter must not be there.
    pub absent: bool,
}

impl QueryMatcher {
    pub fn matches(&self, query: Option<&str>) -> bool {
        let value = query.and_then(|q| query_value(q, &self.name));
        match (&self.value, value) {
            (_, None) => self.absent,
            (None, Some(_)) => !self.absent,
            (Some(matcher), Some(value)) => matcher.matches(value),
        }
    }
}

/// The first value of a query parameter, as it stands there.
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

/// A share of all cases. Source: `envoy.type.v3.FractionalPercent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    pub numerator: u32,
    /// 100, 10,000 or 1,000,000.
    pub denominator: u32,
}

impl Fraction {
    /// Does the case with this random number belong to the share?
    pub fn contains(self, random: u64) -> bool {
        random % u64::from(self.denominator.max(1)) < u64::from(self.numerator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings() {
        let regex = |r: &str| StringMatcher::Regex(config::full_regex(r).unwrap());
        for (matcher, text, expected) in [
            (StringMatcher::Exact("a".into()), "a", true),
            (StringMatcher::ExactIgnoreCase("aB".into()), "Ab", true),
            (StringMatcher::Prefix("ab".into(), false), "abc", true),
            (StringMatcher::Prefix("AB".into(), true), "abc", true),
            (StringMatcher::Suffix("bc".into(), false), "abc", true),
            (StringMatcher::Contains("B".into(), false), "abc", false),
            (StringMatcher::Contains("B".into(), true), "abc", true),
            (regex("a|b"), "ab", false),
            (regex("a.*"), "abc", true),
        ] {
            assert_eq!(matcher.matches(text), expected, "{matcher:?} on {text}");
        }
    }

    #[test]
    fn headers() {
        let header =
            |value, invert, missing_is_empty| HeaderMatcher { name: "x".into(), value, invert, missing_is_empty };
        let exact = |text: &str| ValueMatcher::String(StringMatcher::Exact(text.into()));
        for (matcher, value, expected) in [
            (header(exact("a"), false, false), Some("a"), true),
            (header(exact("a"), true, false), Some("b"), true),
            (header(exact("a"), true, false), None, false),
            (header(exact("a"), true, true), None, true),
            (header(ValueMatcher::Present(true), false, false), Some(""), true),
            (header(ValueMatcher::Present(true), true, false), None, true),
            (header(ValueMatcher::Present(false), false, false), None, true),
            (header(ValueMatcher::Range(1, 5), false, false), Some("5"), false),
            (header(ValueMatcher::Range(1, 5), false, false), Some("4"), true),
        ] {
            assert_eq!(matcher.matches_value(value.map(str::as_bytes)), expected, "{matcher:?} on {value:?}");
        }
    }

    #[test]
    fn queries() {
        let present = QueryMatcher { name: "a".into(), value: None, absent: false };
        assert!(present.matches(Some("b=1&a")) && !present.matches(Some("b=a")) && !present.matches(None));
        let exact = QueryMatcher { value: Some(StringMatcher::Exact("1".into())), ..present };
        assert!(exact.matches(Some("a=1&a=2")) && !exact.matches(Some("a=2")));
    }
}
