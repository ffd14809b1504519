//! JSON as Envoy prints it: fields in the message's order, one space of indent, whole floats
//! without a fraction.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::ser::PrettyFormatter;

/// A JSON value that keeps the order of its fields.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Int(i32),
    UInt(u32),
    Float(f32),
    Double(f64),
    String(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    /// With line breaks and one space of indent a level, as Envoy's admin pages.
    pub fn pretty(&self) -> String {
        let mut bytes = Vec::new();
        let formatter = PrettyFormatter::with_indent(b" ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        // Writing to memory does not fail, and all keys are strings.
        match self.serialize(&mut serializer) {
            Ok(()) => String::from_utf8(bytes).unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// On one line, without spaces.
    pub fn compact(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The value of a field of an object.
    pub fn get(&self, field: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().find(|(name, _)| name == field).map(|(_, value)| value),
            _ => None,
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(number) => serializer.serialize_i32(*number),
            Self::UInt(number) => serializer.serialize_u32(*number),
            Self::Float(number) if is_whole(f64::from(*number)) => serializer.serialize_i64(*number as i64),
            Self::Float(number) if number.is_finite() => serializer.serialize_f32(*number),
            Self::Float(number) => serializer.serialize_str(not_finite(f64::from(*number))),
            Self::Double(number) if is_whole(*number) => serializer.serialize_i64(*number as i64),
            Self::Double(number) if number.is_finite() => serializer.serialize_f64(*number),
            Self::Double(number) => serializer.serialize_str(not_finite(*number)),
            Self::String(text) => serializer.serialize_str(text),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                entries.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
        }
    }
}

fn is_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() < 1e15
}

fn not_finite(number: f64) -> &'static str {
    match number {
        _ if number.is_nan() => "NaN",
        _ if number > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

impl From<Json> for serde_json::Value {
    fn from(json: Json) -> Self {
        // Through text, so that a float keeps the digits that are printed.
        serde_json::from_str(&json.compact()).unwrap_or_default()
    }
}
