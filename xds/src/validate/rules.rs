//! One rule against one value. Pure; the words are protoc-gen-validate's.

use std::fmt;

use envoy_types::pb::validate::StringRules;
use prost_reflect::{Kind, MapKey, ReflectMessage, Value};
use regex::Regex;

use crate::schema::{Bounds, Check};

/// Why `value` breaks the rule, or `None`.
pub(super) fn broken(check: &Check, value: &Value, kind: &Kind) -> Option<String> {
    let inner;
    let value = match wrapped(value) {
        Some(wrapped) => {
            inner = wrapped;
            &inner
        }
        None => value,
    };
    match (check, value) {
        (Check::Int(bounds), value) => bounds.broken(integer(value)?, 0, |number| number.to_string()),
        (Check::Float(bounds), Value::F64(number)) => bounds.broken(*number, 0.0, |number| number.to_string()),
        (Check::Float(bounds), Value::F32(number)) => {
            bounds.broken(f64::from(*number), 0.0, |number| number.to_string())
        }
        (Check::Duration(bounds), value) => bounds.broken(nanos(value)?, 0, |nanos| seconds_text(*nanos)),
        (Check::Bool(expected), Value::Bool(value)) => {
            (value != expected).then(|| format!("value must equal {expected}"))
        }
        (Check::String(rules, pattern), Value::String(text)) => string(rules, pattern.as_ref(), text),
        (Check::Bytes { min, max, ignore_empty }, Value::Bytes(bytes)) => {
            if bytes.is_empty() && *ignore_empty {
                None
            } else {
                length(bytes.len(), *min, *max, "value length", "bytes")
            }
        }
        (Check::Enum { defined_only, equal, among, not_among }, Value::EnumNumber(number)) => {
            let known = matches!(kind, Kind::Enum(kind) if kind.get_value(*number).is_some());
            if *defined_only && !known {
                return Some("value must be one of the defined enum values".to_owned());
            }
            equal
                .filter(|equal| equal != number)
                .map(|equal| format!("value must equal {equal}"))
                .or_else(|| lists(number, among, not_among))
        }
        (Check::Repeated { min, max, unique, ignore_empty, .. }, Value::List(items)) => {
            if items.is_empty() && *ignore_empty {
                return None;
            }
            let repeated =
                || (*unique && has_twins(items)).then(|| "repeated value must contain unique items".to_owned());
            count(items.len(), *min, *max, "item(s)").or_else(repeated)
        }
        (Check::Map { min, max, ignore_empty, .. }, Value::Map(map)) => {
            if map.is_empty() && *ignore_empty {
                None
            } else {
                count(map.len(), *min, *max, "pair(s)")
            }
        }
        (Check::Any { among, not_among }, Value::Message(any)) => {
            let type_url = any.get_field_by_name("type_url")?.as_str()?.to_owned();
            lists(&type_url, among, not_among).map(|reason| reason.replacen("value", "type URL", 1))
        }
        _ => None,
    }
}

/// The value inside `google.protobuf.UInt32Value` and its like.
fn wrapped(value: &Value) -> Option<Value> {
    let message = value.as_message()?;
    let descriptor = message.descriptor();
    let name = descriptor.full_name().strip_prefix("google.protobuf.")?;
    (name.ends_with("Value") && !matches!(name, "Value" | "ListValue")).then_some(())?;
    message.get_field_by_number(1).map(std::borrow::Cow::into_owned)
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::I32(number) => Some(i128::from(*number)),
        Value::I64(number) => Some(i128::from(*number)),
        Value::U32(number) => Some(i128::from(*number)),
        Value::U64(number) => Some(i128::from(*number)),
        _ => None,
    }
}

fn nanos(value: &Value) -> Option<i128> {
    let duration = value.as_message()?;
    let seconds = duration.get_field_by_name("seconds")?.as_i64()?;
    let nanos = duration.get_field_by_name("nanos")?.as_i32()?;
    Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
}

fn seconds_text(nanos: i128) -> String {
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if rest == 0 {
        return format!("{seconds}s");
    }
    format!("{seconds}.{:09}", rest.unsigned_abs()).trim_end_matches('0').to_owned() + "s"
}

impl<N: PartialOrd + Copy> Bounds<N> {
    fn broken(&self, value: N, zero: N, text: impl Fn(&N) -> String) -> Option<String> {
        if self.ignore_empty && value == zero {
            return None;
        }
        if let Some(equal) = self.equal.filter(|equal| *equal != value) {
            return Some(format!("value must equal {}", text(&equal)));
        }
        self.range(value, &text).or_else(|| {
            if !self.among.is_empty() && !self.among.contains(&value) {
                return Some(format!("value must be in list [{}]", joined(&self.among, &text)));
            }
            self.not_among
                .contains(&value)
                .then(|| format!("value must not be in list [{}]", joined(&self.not_among, &text)))
        })
    }

    fn range(&self, value: N, text: impl Fn(&N) -> String) -> Option<String> {
        let upper = self
            .lt
            .map(|limit| (limit, value < limit, "less than", ")"))
            .or_else(|| self.lte.map(|limit| (limit, value <= limit, "less than or equal to", "]")));
        let lower = self
            .gt
            .map(|limit| (limit, value > limit, "greater than", "("))
            .or_else(|| self.gte.map(|limit| (limit, value >= limit, "greater than or equal to", "[")));
        match (lower, upper) {
            (Some((low, above, _, open)), Some((high, below, _, close))) => {
                // Limits the other way round exclude what is between them.
                let (ok, place) = if low < high { (above && below, "inside") } else { (above || below, "outside") };
                (!ok).then(|| format!("value must be {place} range {open}{}, {}{close}", text(&low), text(&high)))
            }
            (Some((limit, false, words, _)), None) | (None, Some((limit, false, words, _))) => {
                Some(format!("value must be {words} {}", text(&limit)))
            }
            _ => None,
        }
    }
}

fn joined<N>(values: &[N], text: impl Fn(&N) -> String) -> String {
    values.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn lists<T: PartialEq + fmt::Display>(value: &T, among: &[T], not_among: &[T]) -> Option<String> {
    if !among.is_empty() && !among.contains(value) {
        return Some(format!("value must be in list [{}]", joined(among, ToString::to_string)));
    }
    not_among.contains(value).then(|| format!("value must not be in list [{}]", joined(not_among, ToString::to_string)))
}

fn string(rules: &StringRules, pattern: Option<&Regex>, text: &String) -> Option<String> {
    if text.is_empty() && rules.ignore_empty.unwrap_or_default() {
        return None;
    }
    if let Some(expected) = rules.r#const.as_ref().filter(|expected| *expected != text) {
        return Some(format!("value must equal {expected}"));
    }
    let missing = |part: &Option<String>, has: fn(&str, &str) -> bool, what: &str| {
        let part = part.as_ref().filter(|part| !has(text, part))?;
        Some(format!("value does not {what} {part:?}"))
    };
    length(text.chars().count(), rules.min_len.or(rules.len), rules.max_len.or(rules.len), "value length", "characters")
        .or_else(|| {
            length(
                text.len(),
                rules.min_bytes.or(rules.len_bytes),
                rules.max_bytes.or(rules.len_bytes),
                "value length",
                "bytes",
            )
        })
        .or_else(|| missing(&rules.prefix, |text, part| text.starts_with(part), "have prefix"))
        .or_else(|| missing(&rules.suffix, |text, part| text.ends_with(part), "have suffix"))
        .or_else(|| missing(&rules.contains, |text, part| text.contains(part), "contain substring"))
        .or_else(|| missing(&rules.not_contains, |text, part| !text.contains(part), "stay without substring"))
        .or_else(|| lists(text, &rules.r#in, &rules.not_in))
        .or_else(|| {
            let pattern = pattern.filter(|pattern| !pattern.is_match(text))?;
            Some(format!("value does not match regex pattern {:?}", pattern.as_str()))
        })
}

fn length(length: usize, min: Option<u64>, max: Option<u64>, what: &str, unit: &str) -> Option<String> {
    let length = length as u64;
    match (min, max) {
        (Some(min), Some(max)) if min == max && length != min => Some(format!("{what} must be {min} {unit}")),
        (Some(min), Some(max)) if length < min || length > max => {
            Some(format!("{what} must be between {min} and {max} {unit}, inclusive"))
        }
        (Some(min), None) if length < min => Some(format!("{what} must be at least {min} {unit}")),
        (None, Some(max)) if length > max => Some(format!("{what} must be at most {max} {unit}")),
        _ => None,
    }
}

fn count(count: usize, min: Option<u64>, max: Option<u64>, unit: &str) -> Option<String> {
    let count = count as u64;
    match (min, max) {
        (Some(min), Some(max)) if min == max && count != min => {
            Some(format!("value must contain exactly {min} {unit}"))
        }
        (Some(min), Some(max)) if count < min || count > max => {
            Some(format!("value must contain between {min} and {max} {unit}, inclusive"))
        }
        (Some(min), None) if count < min => Some(format!("value must contain at least {min} {unit}")),
        (None, Some(max)) if count > max => Some(format!("value must contain no more than {max} {unit}")),
        _ => None,
    }
}

/// Only short lists are compared pairwise; Envoy's protos ask this of lists of strings and enums.
fn has_twins(items: &[Value]) -> bool {
    let mut strings = std::collections::HashSet::new();
    if items.iter().all(|item| matches!(item, Value::String(_))) {
        return !items.iter().filter_map(Value::as_str).all(|text| strings.insert(text));
    }
    let mut later = items;
    while let [first, rest @ ..] = later {
        if rest.len() < 4096 && rest.contains(first) {
            return true;
        }
        later = rest;
    }
    false
}

pub(super) fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
