//! `HTTPRouteGroup`, `TCPRoute`, `UDPRoute` (specs.smi-spec.io/v1alpha1 to v1alpha4): which requests and connections are
//! meant, for splits and targets to refer to.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::meta::ObjectMeta;
use crate::scalar::Port;

/// Requests by path, method and headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HttpRouteGroup {
    /// In the namespace of those that refer to it.
    pub metadata: ObjectMeta,
    /// The matches.
    #[serde(default)]
    pub spec: HttpRouteGroupSpec,
}

/// The fields of an [`HttpRouteGroup`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpRouteGroupSpec {
    /// A request is meant if any of these accepts it.
    pub matches: Vec<HttpMatch>,
}

/// A request is accepted if path and method and every header are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpMatch {
    /// What a target's rule may name; unique in the group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A regular expression for the path without the query; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// Methods; empty, or with `*` among them: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Regular expressions for headers by name, all of which must match; a map, or a list of maps.
    #[serde(skip_serializing_if = "Headers::is_empty")]
    pub headers: Headers,
}

impl HttpMatch {
    /// Whether the method does not matter.
    #[must_use]
    pub fn any_method(&self) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|m| m == "*")
    }
}

/// Header names and the regular expressions of their values, in written order. Read from a map or from a list of maps.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(with = "serde_json::Value")]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// Whether no header is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and regular expressions.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, regex)| (name.as_str(), regex.as_str()))
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let unique: BTreeMap<_, _> = self.iter().collect();
        if unique.len() == self.0.len() {
            let mut map = serializer.serialize_map(Some(self.0.len()))?;
            for (name, regex) in self.iter() {
                map.serialize_entry(name, regex)?;
            }
            return map.end();
        }
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (name, regex) in self.iter() {
            list.serialize_element(&BTreeMap::from([(name, regex)]))?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Headers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of header names to regular expressions, or a list of such maps")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some(entry) = map.next_entry::<String, String>()? {
                    headers.push(entry);
                }
                Ok(Headers(headers))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some(map) = list.next_element::<BTreeMap<String, String>>()? {
                    headers.extend(map);
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for HttpRouteGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wire {
            metadata: ObjectMeta,
            spec: Option<HttpRouteGroupSpec>,
            matches: Option<Vec<HttpMatch>>,
        }
        let Wire { metadata, spec, matches } = Wire::deserialize(deserializer)?;
        let spec = match (spec, matches) {
            (Some(_), Some(_)) => {
                return Err(de::Error::custom("`matches` at the top and `spec` cannot both be given"));
            }
            (Some(spec), None) => spec,
            (None, matches) => HttpRouteGroupSpec { matches: matches.unwrap_or_default() },
        };
        Ok(Self { metadata, spec })
    }
}

/// Connections by port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TcpRoute {
    /// In the namespace of those that refer to it.
    pub metadata: ObjectMeta,
    /// The ports; absent: all.
    #[serde(default)]
    pub spec: PortRouteSpec,
}

/// Datagrams by port. Read, but not enforced here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UdpRoute {
    /// In the namespace of those that refer to it.
    pub metadata: ObjectMeta,
    /// The ports; absent: all.
    #[serde(default)]
    pub spec: PortRouteSpec,
}

/// The fields of a [`TcpRoute`] or [`UdpRoute`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PortRouteSpec {
    /// Which ports.
    pub matches: PortMatch,
}

/// Ports of the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PortMatch {
    /// A name, not used.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Empty: all ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
}

/// Before v1alpha4 these kinds had no fields at all, which means all ports.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PortRoute {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PortRouteSpec,
}

impl<'de> Deserialize<'de> for TcpRoute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PortRoute::deserialize(deserializer).map(|PortRoute { metadata, spec }| Self { metadata, spec })
    }
}

impl<'de> Deserialize<'de> for UdpRoute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PortRoute::deserialize(deserializer).map(|PortRoute { metadata, spec }| Self { metadata, spec })
    }
}
