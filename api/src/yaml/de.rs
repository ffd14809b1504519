//! Reads typed values from a [`Node`] tree; an error says what, at which field, line and column.

use std::fmt;

use serde::de::{self, IntoDeserializer, Visitor};

use super::node::{Entry, Node, Position, Value};
use crate::field::{FieldPath, Segment};

/// What kind of error it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeErrorKind {
    /// A field that the type does not have.
    UnknownField {
        /// The field.
        field: String,
        /// Those that it has.
        known: &'static [&'static str],
    },
    /// A word that is none of the type's.
    UnknownVariant {
        /// The word.
        word: String,
        /// Those that there are.
        known: &'static [&'static str],
    },
    /// A field that must be there is not.
    MissingField(&'static str),
    /// The value has another type.
    WrongType,
    /// The value has the right type but makes no sense.
    Invalid,
}

/// Why a tree is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NodeError {
    /// What kind of error.
    pub kind: NodeErrorKind,
    /// One line, without place.
    pub message: String,
    /// Where.
    pub at: Option<Position>,
    steps: Vec<Segment>,
}

impl NodeError {
    fn new(kind: NodeErrorKind, message: String) -> Self {
        Self { kind, message, at: None, steps: Vec::new() }
    }

    /// The field that is meant; of an unknown field, the field itself.
    #[must_use]
    pub fn field(&self) -> FieldPath {
        self.steps.iter().rev().cloned().collect()
    }

    /// A value of `root` at `field` that reads but cannot hold.
    pub(crate) fn invalid(field: &FieldPath, message: String, root: &Node) -> Self {
        let kind =
            if message.starts_with("missing field") { NodeErrorKind::MissingField("") } else { NodeErrorKind::Invalid };
        let steps = field.segments().iter().rev().cloned().collect();
        Self { kind, message, at: Some(root.locate(field).0), steps }
    }

    /// The standard library's parsers do not say what they could not parse.
    fn naming(mut self, value: &Value) -> Self {
        if let Value::Text(text) = value {
            let what = match self.message.as_str() {
                "invalid IP address syntax" => "bad IP address",
                "invalid socket address syntax" => "bad address and port",
                _ => return self,
            };
            self.message = format!("{what} `{}`", text.chars().take(80).collect::<String>());
        }
        self
    }

    fn under(mut self, segment: Segment, at: Position) -> Self {
        self.steps.push(segment);
        self.at.get_or_insert(at);
        self
    }

    fn placed(mut self, at: Position) -> Self {
        self.at.get_or_insert(at);
        self
    }
}

impl de::Error for NodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(NodeErrorKind::Invalid, message.to_string())
    }
    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(
            NodeErrorKind::WrongType,
            format!("wrong type: expected {}, found {}", wanted(expected), Found(found)),
        )
    }
    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(NodeErrorKind::Invalid, format!("bad value: expected {}, found {}", wanted(expected), Found(found)))
    }
    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        let kind = NodeErrorKind::UnknownField { field: field.to_owned(), known };
        Self::new(kind, format!("unknown field `{field}`"))
    }
    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        let kind = NodeErrorKind::UnknownVariant { word: word.to_owned(), known };
        Self::new(kind, format!("unknown value `{word}`"))
    }
    fn missing_field(field: &'static str) -> Self {
        Self::new(NodeErrorKind::MissingField(field), format!("missing field `{field}`"))
    }
}

/// What was expected, in a user's words rather than in Rust's.
fn wanted(expected: &dyn de::Expected) -> String {
    let text = expected.to_string();
    let plain = match text.as_str() {
        "u8" | "u16" | "u32" | "u64" => "a whole number, 0 or more",
        "a nonzero u32" | "a nonzero u16" => "a whole number, 1 or more",
        "i32" | "i64" => "a whole number",
        "f64" => "a number",
        "a string" | "string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        other if other.starts_with("struct ") => "a map",
        other if other.starts_with("enum ") => "a word",
        other => other,
    };
    plain.to_owned()
}

/// What was found, in a user's words.
struct Found<'a>(de::Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            de::Unexpected::Bool(b) => write!(f, "the boolean `{b}`"),
            de::Unexpected::Unsigned(n) => write!(f, "the number `{n}`"),
            de::Unexpected::Signed(n) => write!(f, "the number `{n}`"),
            de::Unexpected::Float(n) => write!(f, "the number `{n}`"),
            de::Unexpected::Str(s) => write!(f, "the text `{s}`"),
            de::Unexpected::Unit | de::Unexpected::Option => f.write_str("nothing"),
            de::Unexpected::Seq => f.write_str("a list"),
            de::Unexpected::Map => f.write_str("a map"),
            other => other.fmt(f),
        }
    }
}

/// Reads a `T` from `node`. A map's entry without a value counts as absent, as in Kubernetes.
///
/// # Errors
/// When the tree is no `T`, with the place.
pub fn from_node<'de, T: serde::Deserialize<'de>>(node: &'de Node) -> Result<T, NodeError> {
    T::deserialize(node).map_err(|e| e.placed(node.at))
}

impl Node {
    fn unexpected(&self) -> de::Unexpected<'_> {
        match &self.value {
            Value::Null => de::Unexpected::Unit,
            Value::Bool(b) => de::Unexpected::Bool(*b),
            Value::Int(n) => de::Unexpected::Signed(*n),
            Value::Uint(n) => de::Unexpected::Unsigned(*n),
            Value::Float(n) => de::Unexpected::Float(*n),
            Value::Text(text) => de::Unexpected::Str(text),
            Value::List(_) => de::Unexpected::Seq,
            Value::Map(_) => de::Unexpected::Map,
        }
    }

    fn wrong_type<'de, V: Visitor<'de>>(&self, visitor: &V) -> NodeError {
        <NodeError as de::Error>::invalid_type(self.unexpected(), visitor).placed(self.at)
    }
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = NodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        let result = match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Int(n) => visitor.visit_i64(*n),
            Value::Uint(n) => visitor.visit_u64(*n),
            Value::Float(n) => visitor.visit_f64(*n),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(items) => visitor.visit_seq(Items { items: items.iter(), index: 0 }),
            Value::Map(entries) => visitor.visit_map(Fields { entries: entries.iter(), value: None, known: &[] }),
        };
        result.map_err(|e| e.naming(&self.value).placed(self.at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, NodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        // A derived struct would also take a list, its fields in order, which no manifest means.
        match &self.value {
            Value::Map(entries) => {
                visitor.visit_map(Fields { entries: entries.iter(), value: None, known }).map_err(|e| e.placed(self.at))
            }
            _ => Err(<NodeError as de::Error>::invalid_type(self.unexpected(), &"a map").placed(self.at)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NodeError> {
        let result = match &self.value {
            Value::Text(word) => visitor.visit_enum(word.as_str().into_deserializer()),
            Value::Map(entries) => match entries.as_slice() {
                [entry] => visitor.visit_enum(Variant(entry)),
                _ => Err(de::Error::custom(format!("exactly one field is needed here, {} are given", entries.len()))),
            },
            _ => Err(self.wrong_type(&visitor)),
        };
        result.map_err(|e: NodeError| e.placed(self.at))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NodeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier
    }
}

struct Items<'de> {
    items: std::slice::Iter<'de, Node>,
    index: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = NodeError;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, NodeError> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        seed.deserialize(item).map(Some).map_err(|e| e.under(Segment::Index(index), item.at))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Fields<'de> {
    entries: std::slice::Iter<'de, Entry>,
    value: Option<&'de Entry>,
    /// Fields that count as absent when nothing is written for them.
    known: &'static [&'static str],
}

impl<'de> de::MapAccess<'de> for Fields<'de> {
    type Error = NodeError;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, NodeError> {
        let known = self.known;
        let absent = |entry: &&Entry| entry.value.value == Value::Null && known.contains(&entry.key.as_str());
        let Some(entry) = self.entries.find(|entry| !absent(entry)) else {
            return Ok(None);
        };
        self.value = Some(entry);
        seed_key(seed, entry).map(Some)
    }

    fn next_value_seed<V: de::DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, NodeError> {
        let Some(entry) = self.value.take() else {
            return Err(de::Error::custom("a value was read before its key"));
        };
        seed.deserialize(&entry.value).map_err(|e| e.under(Segment::Key(entry.key.clone()), entry.value.at))
    }
}

fn seed_key<'de, K: de::DeserializeSeed<'de>>(seed: K, entry: &'de Entry) -> Result<K::Value, NodeError> {
    let key: de::value::BorrowedStrDeserializer<'de, NodeError> = de::value::BorrowedStrDeserializer::new(&entry.key);
    seed.deserialize(key).map_err(|e| e.under(Segment::Key(entry.key.clone()), entry.at))
}

struct Variant<'de>(&'de Entry);

impl<'de> de::EnumAccess<'de> for Variant<'de> {
    type Error = NodeError;
    type Variant = Self;

    fn variant_seed<V: de::DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), NodeError> {
        Ok((seed_key(seed, self.0)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'de> {
    type Error = NodeError;

    fn unit_variant(self) -> Result<(), NodeError> {
        Err(<NodeError as de::Error>::custom("no value belongs here").placed(self.0.value.at))
    }
    fn newtype_variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, NodeError> {
        seed.deserialize(&self.0.value).map_err(|e| e.under(Segment::Key(self.0.key.clone()), self.0.value.at))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, NodeError> {
        de::Deserializer::deserialize_any(&self.0.value, visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, NodeError> {
        de::Deserializer::deserialize_any(&self.0.value, visitor)
    }
}
