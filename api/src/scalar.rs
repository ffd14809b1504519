//! Small values that several kinds share, each of which can only hold what makes sense.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A share of 0 to 100 percent, exact to a ten-thousandth of a percent (as Envoy's `FractionalPercent` by million).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "f64")]
pub struct Percent(u32);

impl Percent {
    /// Everything.
    pub const ALL: Self = Self(1_000_000);
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// `percent` of everything; `None` unless it is 0 to 100.
    #[must_use]
    pub fn new(percent: f64) -> Option<Self> {
        (0.0..=100.0).contains(&percent).then(|| Self((percent * 10_000.0).round() as u32))
    }

    /// Parts per million, 0 to 1,000,000.
    #[must_use]
    pub const fn per_million(self) -> u32 {
        self.0
    }

    /// 0.0 to 100.0.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(10_000) {
            serializer.serialize_u32(self.0 / 10_000)
        } else {
            serializer.serialize_f64(self.as_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        Self::new(percent).ok_or_else(|| de::Error::custom(format!("bad percentage `{percent}`: must be 0 to 100")))
    }
}

/// An HTTP status that a proxy may answer with: 200 to 599. Source: Envoy `HTTPFault.FaultAbort.http_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(with = "i64")]
pub struct HttpStatus(u16);

impl HttpStatus {
    /// `None` unless `status` is 200 to 599.
    #[must_use]
    pub fn new(status: u16) -> Option<Self> {
        (200..600).contains(&status).then_some(Self(status))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl<'de> Deserialize<'de> for HttpStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let status = u16::deserialize(deserializer)?;
        Self::new(status).ok_or_else(|| de::Error::custom(format!("bad status `{status}`: must be 200 to 599")))
    }
}

/// A TCP port, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Port(std::num::NonZeroU16);

impl Port {
    /// `None` for 0.
    #[must_use]
    pub fn new(port: u16) -> Option<Self> {
        std::num::NonZeroU16::new(port).map(Self)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = Port;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number, 1 to 65535")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Port, E> {
                u16::try_from(n)
                    .ok()
                    .and_then(Port::new)
                    .ok_or_else(|| E::custom(format!("bad port `{n}`: must be 1 to 65535")))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Port, E> {
                u64::try_from(n)
                    .map_err(|_| E::custom(format!("bad port `{n}`: must be 1 to 65535")))
                    .and_then(|n| self.visit_u64(n))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// A port by number or by the name that the target gives it. Source: Kubernetes `IntOrString`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(with = "serde_json::Value", extend("x-kubernetes-int-or-string" = true))]
pub enum PortRef {
    /// By number.
    Number(Port),
    /// By name.
    Name(String),
}

impl<'de> Deserialize<'de> for PortRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = PortRef;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number or a port's name")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<PortRef, E> {
                Port::deserialize(de::value::U64Deserializer::new(n)).map(PortRef::Number)
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<PortRef, E> {
                Port::deserialize(de::value::I64Deserializer::new(n)).map(PortRef::Number)
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<PortRef, E> {
                Ok(PortRef::Name(name.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// The name of a SPIFFE trust domain: lower-case letters, digits, `.`, `-`, `_`; at most 255.
///
/// Source: SPIFFE-ID, section 2.1.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    fn default() -> Self {
        Self("cluster.local".to_owned())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text names no trust domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad trust domain `{0}`: use lower-case letters, digits, `.`, `-` and `_`, 1 to 255 of them")]
pub struct TrustDomainError(String);

impl FromStr for TrustDomain {
    type Err = TrustDomainError;

    fn from_str(name: &str) -> Result<Self, TrustDomainError> {
        let known = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-' | b'_');
        if (1..=255).contains(&name.len()) && name.bytes().all(known) {
            Ok(Self(name.to_owned()))
        } else {
            Err(TrustDomainError(name.to_owned()))
        }
    }
}

impl<'de> Deserialize<'de> for TrustDomain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
