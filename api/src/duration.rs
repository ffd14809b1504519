//! Durations as Go writes them: `250ms`, `1m30s`, `-1.5h`.
//!
//! Source: Go `time.ParseDuration` and `Duration.String`. A bare number other than `0` is refused, as Go refuses it.
//! Deliberate difference: negative durations are refused, no field of ours has a use for one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration in Go's form. Whole nanoseconds, 0 to about 292 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String")]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// `n` milliseconds.
    #[must_use]
    pub const fn from_millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// `n` seconds.
    #[must_use]
    pub const fn from_secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// The duration as the standard library has it.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Whether it is zero, which several fields read as "none".
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<GoDuration> for Duration {
    fn from(d: GoDuration) -> Self {
        d.0
    }
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// There is nothing, or a sign alone.
    #[error("bad duration `{0}`: write a number and a unit, like 250ms, 2s or 1m30s")]
    Malformed(String),
    /// A number stands alone.
    #[error("bad duration `{0}`: the unit is missing, write {0}s or {0}ms")]
    MissingUnit(String),
    /// The unit is none of Go's.
    #[error("bad duration `{text}`: unknown unit `{unit}`, use ns, us, ms, s, m or h")]
    UnknownUnit {
        /// All that was written.
        text: String,
        /// The part that is no unit.
        unit: String,
    },
    /// It is below zero.
    #[error("bad duration `{0}`: must not be negative")]
    Negative(String),
    /// It is too long to be counted in nanoseconds.
    #[error("bad duration `{0}`: too long, at most 2562047h")]
    TooLong(String),
}

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let (negative, body) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if body == "0" {
            return Ok(Self::default());
        }
        let nanos = nanoseconds(text, body)?;
        if negative && nanos > 0 {
            return Err(DurationError::Negative(text.to_owned()));
        }
        u64::try_from(nanos)
            .ok()
            .filter(|n| *n <= i64::MAX as u64)
            .map(|n| Self(Duration::from_nanos(n)))
            .ok_or_else(|| DurationError::TooLong(text.to_owned()))
    }
}

fn nanoseconds(text: &str, mut rest: &str) -> Result<u128, DurationError> {
    let malformed = || DurationError::Malformed(text.to_owned());
    if rest.is_empty() {
        return Err(malformed());
    }
    let mut total = 0_u128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(malformed());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let scale = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, scale)| *scale)
            .ok_or_else(|| DurationError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned() })?;
        total = part(whole, fraction, scale)
            .and_then(|n| total.checked_add(n))
            .ok_or_else(|| DurationError::TooLong(text.to_owned()))?;
        rest = after;
    }
    Ok(total)
}

/// `whole.fraction` times `scale`, cut to whole nanoseconds as Go does. `None` when it is too large.
fn part(whole: &str, fraction: &str, scale: u128) -> Option<u128> {
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let digits = fraction.get(..fraction.len().min(18))?;
    let below = if digits.is_empty() { 0 } else { digits.parse::<u128>().ok()? };
    let below = below.checked_mul(scale)? / 10_u128.checked_pow(u32::try_from(digits.len()).ok()?)?;
    whole.checked_mul(scale)?.checked_add(below)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < 1_000_000_000 {
            let (scale, unit) = match nanos {
                0..1_000 => (1, "ns"),
                1_000..1_000_000 => (1_000, "µs"),
                _ => (1_000_000, "ms"),
            };
            return write!(f, "{}{unit}", decimal(nanos, scale));
        }
        let seconds = self.0.as_secs();
        if seconds >= 3600 {
            write!(f, "{}h", seconds / 3600)?;
        }
        if seconds >= 60 {
            write!(f, "{}m", seconds / 60 % 60)?;
        }
        write!(f, "{}s", decimal(nanos % 60_000_000_000, 1_000_000_000))
    }
}

fn decimal(value: u128, scale: u128) -> String {
    let (whole, below) = (value / scale, value % scale);
    if below == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    format!("{whole}.{}", format!("{below:0width$}").trim_end_matches('0'))
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = GoDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like 250ms or 1m30s")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<GoDuration, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<GoDuration, E> {
                self.visit_str(&n.to_string())
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<GoDuration, E> {
                self.visit_str(&n.to_string())
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<GoDuration, E> {
                self.visit_str(&n.to_string())
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_go_durations() {
        let cases = [
            ("250ms", 250_000_000, "250ms"),
            ("1m30s", 90_000_000_000, "1m30s"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("-0s", 0, "0s"),
            ("1.5h", 5_400_000_000_000, "1h30m0s"),
            (".5s", 500_000_000, "500ms"),
            ("2us", 2_000, "2µs"),
            ("1h", 3_600_000_000_000, "1h0m0s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("100ns", 100, "100ns"),
        ];
        for (text, nanos, back) in cases {
            let got: GoDuration = text.parse().unwrap();
            assert_eq!(got.0.as_nanos(), nanos, "{text}");
            assert_eq!(got.to_string(), back);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let cases = [
            ("", "number and a unit"),
            ("soon", "number and a unit"),
            ("5", "unit is missing, write 5s"),
            ("5 s", "unknown unit"),
            ("3d", "unknown unit `d`"),
            ("-3s", "negative"),
            ("1..2s", "number and a unit"),
            ("9999999999h", "too long"),
            ("99999999999999999999999999999999999999999999h", "too long"),
            ("1s2", "unit is missing"),
        ];
        for (text, part) in cases {
            let error = text.parse::<GoDuration>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
