//! `TrafficTarget` (access.smi-spec.io/v1alpha1 to v1alpha3): who may call a service account, and how.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::RouteKind;
use crate::meta::ObjectMeta;
use crate::scalar::{Port, PortRef};

/// Who may call a service account, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TrafficTarget {
    /// In the destination's namespace.
    pub metadata: ObjectMeta,
    /// The grant.
    #[schemars(with = "Option<TrafficTargetSpec>")] // its fields at the top are read too
    pub spec: TrafficTargetSpec,
}

/// The fields of a [`TrafficTarget`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrafficTargetSpec {
    /// Who is called.
    pub destination: Subject,
    /// Who may call; empty: nobody.
    #[serde(default)]
    pub sources: Vec<Subject>,
    /// What may be called; any of these. Empty: nothing.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// `ServiceAccount` when absent.
    #[serde(default)]
    pub kind: SubjectKind,
    /// Its name.
    pub name: String,
    /// The target's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Of a destination: only this port. v1alpha1 writes it as a text.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "port")]
    #[schemars(with = "Option<PortRef>")]
    pub port: Option<Port>,
}

/// The kinds of subjects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SubjectKind {
    /// The only kind that calls and is called.
    #[default]
    ServiceAccount,
}

/// What may be called.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What `name` names.
    pub kind: RouteKind,
    /// A route of the target's namespace.
    pub name: String,
    /// Of an HTTPRouteGroup: only the matches with these names. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<String>,
}

/// A port as a number or, in v1alpha1, as a text; the empty text is none.
fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Port>, D::Error> {
    struct Either;
    impl de::Visitor<'_> for Either {
        type Value = Option<Port>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a port number, 1 to 65535")
        }
        fn visit_u64<E: de::Error>(self, n: u64) -> Result<Option<Port>, E> {
            Port::deserialize(de::value::U64Deserializer::new(n)).map(Some)
        }
        fn visit_i64<E: de::Error>(self, n: i64) -> Result<Option<Port>, E> {
            Port::deserialize(de::value::I64Deserializer::new(n)).map(Some)
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<Port>, E> {
            if text.is_empty() {
                return Ok(None);
            }
            match text.parse() {
                Ok(n) => self.visit_u64(n),
                Err(_) => Err(E::custom(format!("bad port `{text}`: must be 1 to 65535"))),
            }
        }
        fn visit_unit<E: de::Error>(self) -> Result<Option<Port>, E> {
            Ok(None)
        }
    }
    deserializer.deserialize_any(Either)
}

impl<'de> Deserialize<'de> for TrafficTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Wire {
            metadata: ObjectMeta,
            spec: Option<TrafficTargetSpec>,
            destination: Option<Subject>,
            sources: Option<Vec<Subject>>,
            specs: Option<Vec<Rule>>,
            rules: Option<Vec<Rule>>,
        }
        let wire = Wire::deserialize(deserializer)?;
        let spec = match (wire.spec, wire.destination) {
            (Some(_), Some(_)) => {
                return Err(de::Error::custom("`destination` at the top and `spec` cannot both be given"));
            }
            (Some(spec), None) => spec,
            (None, Some(destination)) => TrafficTargetSpec {
                destination,
                sources: wire.sources.unwrap_or_default(),
                rules: wire.specs.or(wire.rules).unwrap_or_default(),
            },
            (None, None) => return Err(de::Error::missing_field("spec")),
        };
        Ok(Self { metadata: wire.metadata, spec })
    }
}
