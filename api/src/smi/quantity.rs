//! Kubernetes quantities (`1500m`, `2`, `1k`), which are the weights of split v1alpha1, turned into whole numbers.
//!
//! Source: Kubernetes `apimachinery/pkg/api/resource.Quantity`.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

/// A quantity, exact to a billionth. Not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(with = "serde_json::Value")]
pub struct Quantity {
    nano: u128,
}

const NANO: u128 = 1_000_000_000;

const SUFFIXES: [(&str, u128); 16] = [
    ("Ki", NANO << 10),
    ("Mi", NANO << 20),
    ("Gi", NANO << 30),
    ("Ti", NANO << 40),
    ("Pi", NANO << 50),
    ("Ei", NANO << 60),
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("k", NANO * 1_000),
    ("M", NANO * 1_000_000),
    ("G", NANO * 1_000_000_000),
    ("T", NANO * 1_000_000_000_000),
    ("P", NANO * 1_000_000_000_000_000),
    ("E", NANO * 1_000_000_000_000_000_000),
    ("", NANO),
];

impl Quantity {
    fn parse(text: &str) -> Option<Self> {
        let (number, scale) = SUFFIXES.iter().find_map(|(suffix, scale)| {
            let number = text.strip_suffix(suffix)?;
            number.ends_with(|c: char| c.is_ascii_digit() || c == '.').then_some((number, *scale))
        })?;
        let number = number.strip_prefix('+').unwrap_or(number);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |s: &str| s.bytes().all(|c| c.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || fraction.len() > 18 {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let below: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        let below = below.checked_mul(scale)? / 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        Some(Self { nano: whole.checked_mul(scale)?.checked_add(below)? })
    }

    /// The quantities as whole numbers in the same proportion: as they are when all are whole, else as thousandths, or finer
    /// where that is needed.
    #[must_use]
    pub fn whole(quantities: &[Self]) -> Vec<u64> {
        let unit = [NANO, NANO / 1_000, NANO / 1_000_000, 1]
            .into_iter()
            .find(|unit| quantities.iter().all(|q| q.nano.is_multiple_of(*unit)))
            .unwrap_or(1);
        quantities.iter().map(|q| u64::try_from(q.nano / unit).unwrap_or(u64::MAX)).collect()
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity of 0 or more, like 500m or 2")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                Quantity::parse(text)
                    .ok_or_else(|| E::custom(format!("bad quantity `{text}`: write 0 or more, like 500m or 2")))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Quantity, E> {
                Ok(Quantity { nano: u128::from(n) * NANO })
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Quantity, E> {
                self.visit_str(&n.to_string())
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Quantity, E> {
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
    fn keeps_proportions() {
        let cases: [(&[&str], Option<&[u64]>); 9] = [
            (&["1500m", "500m"], Some(&[1500, 500])),
            (&["1", "500m"], Some(&[1000, 500])),
            (&["75", "25"], Some(&[75, 25])),
            (&["1k", "1"], Some(&[1000, 1])),
            (&["0.5", "1.5"], Some(&[500, 1500])),
            (&["1Ki"], Some(&[1024])),
            (&["-1"], None),
            (&["ten"], None),
            (&["m"], None),
        ];
        for (texts, expected) in cases {
            let read: Option<Vec<Quantity>> = texts.iter().map(|t| Quantity::parse(t)).collect();
            assert_eq!(read.map(|q| Quantity::whole(&q)).as_deref(), expected, "{texts:?}");
        }
    }
}
