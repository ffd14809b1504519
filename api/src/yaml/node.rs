//! A parsed document whose every node knows where it stands.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

use crate::field::{FieldPath, Segment};

/// A place in a text: line and column, in characters, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins; where it is used, for an alias.
    pub at: Position,
    /// What it is.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`, and no other word.
    Bool(bool),
    /// A whole number below zero.
    Int(i64),
    /// A whole number.
    Uint(u64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map in written order. Keys are unique.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where the key stands.
    pub at: Position,
    /// The key.
    pub key: String,
    /// What it holds.
    pub value: Node,
}

/// Why a text is no YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// One line.
    pub message: String,
    /// Where, if the parser knows.
    pub at: Option<Position>,
}

/// A value that was never written by anybody: all of it stands at the beginning.
impl From<serde_json::Value> for Node {
    fn from(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let at = Position { line: 1, column: 1 };
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(value),
            Json::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => Value::Uint(value),
                (None, Some(value)) => Value::Int(value),
                (None, None) => Value::Float(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => Value::Text(text),
            Json::Array(items) => Value::List(items.into_iter().map(Self::from).collect()),
            Json::Object(fields) => Value::Map(
                fields
                    .into_iter()
                    .map(|(key, value)| Entry { at, key: written(key, &value), value: value.into() })
                    .collect(),
            ),
        };
        Self { at, value }
    }
}

/// A key as it was written in YAML. To YAML 1.1, which kubectl and Helm read, a bare `on` is the boolean, and so it comes here
/// from `retry: {on: [5xx]}`. No object has lists by names of the user's choice, so that none is mistaken for it.
fn written(key: String, value: &serde_json::Value) -> String {
    if key == "true" && value.is_array() { "on".to_owned() } else { key }
}

impl Node {
    /// Parses one document.
    ///
    /// # Errors
    /// When it is no YAML; positions are within `text`.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let options = serde_saphyr::options! { strict_booleans: true };
        serde_saphyr::from_str_with_options::<Spanned<Value>>(text, options).map(Self::from).map_err(|error| {
            let at = error.location().filter(|l| l.line() > 0).map(Position::from);
            SyntaxError { message: one_line(&error), at }
        })
    }

    /// The value of `key`, if this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The key and value of `key`, if this is a map that has it.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| e.key == key),
            _ => None,
        }
    }

    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where `path` stands, or the nearest part of it that exists, and how many of its steps exist.
    #[must_use]
    pub fn locate(&self, path: &FieldPath) -> (Position, usize) {
        let (mut node, mut at) = (self, self.at);
        for (depth, segment) in path.segments().iter().enumerate() {
            let next = match (segment, &node.value) {
                (Segment::Key(key), _) => node.get(key),
                (Segment::Index(index), Value::List(items)) => items.get(*index),
                (Segment::Index(_), _) => None,
            };
            match next {
                Some(found) => (node, at) = (found, found.at),
                None => return (at, depth),
            }
        }
        (at, path.segments().len())
    }

    /// The same with every line moved down by `lines`.
    pub(super) fn shift(&mut self, lines: u32) {
        self.at.line += lines;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.shift(lines)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.at.line += lines;
                    entry.value.shift(lines);
                }
            }
            _ => {}
        }
    }
}

/// The parser's message without its place and snippet, which are ours to print.
fn one_line(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    let cut = [" at line ", " (at line "].iter().find_map(|mark| line.rfind(mark));
    let line = cut.and_then(|end| line.get(..end)).unwrap_or(line);
    let line = line.split_once(", set DuplicateKeyPolicy").map_or(line, |(before, _)| before);
    line.trim_start_matches("error: ").trim().to_owned()
}

impl From<serde_saphyr::Location> for Position {
    fn from(location: serde_saphyr::Location) -> Self {
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: small(location.line()).max(1), column: small(location.column()).max(1) }
    }
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        Self { at: spanned.referenced.into(), value: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> de::Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Self)
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Self)
    }
    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }
    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(u64::try_from(n).map_or(Value::Int(n), Value::Uint))
    }
    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(Value::Uint(n))
    }
    fn visit_i128<E>(self, n: i128) -> Result<Value, E> {
        Ok(Value::Float(n as f64))
    }
    fn visit_u128<E>(self, n: u128) -> Result<Value, E> {
        Ok(Value::Float(n as f64))
    }
    fn visit_f64<E>(self, n: f64) -> Result<Value, E> {
        Ok(Value::Float(n))
    }
    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }
    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<Spanned<Value>>()? {
            items.push(item.into());
        }
        Ok(Value::List(items))
    }
    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Spanned<Value>>()? {
            entries.push(Entry { at: key.referenced.into(), key: key.value, value: value.into() });
        }
        Ok(Value::Map(entries))
    }
}
