//! A message into JSON: proto field names, unset fields left out, map keys sorted, 64-bit integers
//! as strings; an `Any` of a type that is not known as base64 instead of a failure.
//!
//! Source: protobuf's JSON mapping; `MessageUtil::redact` in Envoy for secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::DecodeError;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};

use super::printer::Json;
use super::{UnknownFields, read, well_known};
use crate::schema::Schema;
use crate::typed_struct;

const REDACTED: &str = "[redacted]";

/// What becomes of fields marked `udpa.annotations.sensitive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    Show,
    /// `[redacted]` in their place, as `/config_dump` has it.
    Redact,
}

/// A message as JSON.
pub fn print(schema: &Schema, message: &DynamicMessage, secrets: Secrets) -> Json {
    Writer { schema, secrets, inside_secret: false }.message(message)
}

/// Encoded bytes of the message `full_name` as JSON.
///
/// # Errors
/// When the bytes are no such message or the message is not known.
pub fn print_encoded(schema: &Schema, full_name: &str, bytes: &[u8], secrets: Secrets) -> Result<Json, DecodeError> {
    #[allow(deprecated)] // the only way to make a DecodeError of one's own in prost 0.14
    let descriptor =
        schema.message(full_name).ok_or_else(|| DecodeError::new(format!("message type {full_name} is not known")))?;
    Ok(print(schema, &DynamicMessage::decode(descriptor, bytes)?, secrets))
}

/// An `Any` as JSON, whatever is in it.
pub fn print_any(schema: &Schema, type_url: &str, bytes: &[u8], secrets: Secrets) -> Json {
    Writer { schema, secrets, inside_secret: false }.any(type_url, bytes)
}

#[derive(Clone, Copy)]
struct Writer<'s> {
    schema: &'s Schema,
    secrets: Secrets,
    /// Within a sensitive field: every leaf is secret.
    inside_secret: bool,
}

impl Writer<'_> {
    fn message(self, message: &DynamicMessage) -> Json {
        let descriptor = message.descriptor();
        match descriptor.full_name() {
            "google.protobuf.Any" => return self.any_message(message),
            name if self.secrets == Secrets::Redact && typed_struct::is_typed_struct(name) => {
                return Json::Map(self.typed_struct(message));
            }
            _ => {}
        }
        let special = well_known::write(message, |value, kind| self.value(value, kind));
        special.unwrap_or_else(|| Json::Map(self.fields(message)))
    }

    fn fields(self, message: &DynamicMessage) -> Vec<(String, Json)> {
        let facts = (self.secrets == Secrets::Redact).then(|| self.schema.facts(&message.descriptor()));
        let mut entries = Vec::new();
        for (field, value) in message.fields() {
            let sensitive =
                facts.as_ref().and_then(|facts| facts.fields.get(&field.number())).is_some_and(|f| f.sensitive);
            let writer = Self { inside_secret: self.inside_secret || sensitive, ..self };
            if let Some(json) = writer.field(&field, value) {
                entries.push((field.name().to_owned(), json));
            }
        }
        entries
    }

    /// `None` for numbers and the like inside a secret: Envoy clears them.
    fn field(self, field: &FieldDescriptor, value: &Value) -> Option<Json> {
        match value {
            Value::List(items) => {
                Some(Json::List(items.iter().filter_map(|item| self.leaf(item, &field.kind())).collect()))
            }
            Value::Map(map) => {
                let Kind::Message(entry) = field.kind() else { return None };
                let kind = entry.map_entry_value_field().kind();
                let mut entries: Vec<(String, Json)> =
                    map.iter().filter_map(|(key, value)| Some((key_text(key), self.leaf(value, &kind)?))).collect();
                entries.sort_by(|(left, _), (right, _)| left.cmp(right));
                Some(Json::Map(entries))
            }
            value => self.leaf(value, &field.kind()),
        }
    }

    fn leaf(self, value: &Value, kind: &Kind) -> Option<Json> {
        if !self.inside_secret {
            return Some(self.value(value, kind));
        }
        match value {
            Value::String(_) => Some(Json::String(REDACTED.to_owned())),
            Value::Bytes(_) => Some(Json::String(STANDARD.encode(REDACTED))),
            Value::Message(message) => Some(self.message(message)),
            _ => None,
        }
    }

    fn value(self, value: &Value, kind: &Kind) -> Json {
        if self.inside_secret && !matches!(value, Value::Message(_)) {
            return self.leaf(value, kind).unwrap_or(Json::Null);
        }
        match value {
            Value::Bool(value) => Json::Bool(*value),
            Value::I32(number) => Json::Int(*number),
            Value::U32(number) => Json::UInt(*number),
            Value::I64(number) => Json::String(number.to_string()),
            Value::U64(number) => Json::String(number.to_string()),
            Value::F32(number) => Json::Float(*number),
            Value::F64(number) => Json::Double(*number),
            Value::String(text) => Json::String(text.clone()),
            Value::Bytes(bytes) => Json::String(STANDARD.encode(bytes)),
            Value::EnumNumber(number) => enum_value(kind, *number),
            Value::Message(message) => self.message(message),
            Value::List(items) => Json::List(items.iter().map(|item| self.value(item, kind)).collect()),
            Value::Map(_) => Json::Null, // a map is a field, never a value of one
        }
    }

    fn any_message(self, message: &DynamicMessage) -> Json {
        let type_url = message.get_field_by_name("type_url");
        let value = message.get_field_by_name("value");
        let type_url = type_url.as_deref().and_then(Value::as_str).unwrap_or_default();
        let bytes = value.as_deref().and_then(Value::as_bytes).map(AsRef::as_ref).unwrap_or_default();
        if type_url.is_empty() && bytes.is_empty() { Json::Map(Vec::new()) } else { self.any(type_url, bytes) }
    }

    fn any(self, type_url: &str, bytes: &[u8]) -> Json {
        let mut entries = vec![("@type".to_owned(), Json::String(type_url.to_owned()))];
        let decoded = self.schema.message_of(type_url).and_then(|inner| DynamicMessage::decode(inner, bytes).ok());
        match decoded {
            None => entries.push(("value".to_owned(), self.opaque(bytes))),
            Some(inner) => match self.message(&inner) {
                Json::Map(fields) if !is_printed_as_value(&inner.descriptor()) => entries.extend(fields),
                value => entries.push(("value".to_owned(), value)),
            },
        }
        Json::Map(entries)
    }

    fn opaque(self, bytes: &[u8]) -> Json {
        let shown = if self.inside_secret { REDACTED.as_bytes() } else { bytes };
        Json::String(STANDARD.encode(shown))
    }

    /// Secrets in a `TypedStruct` are found by reading it as the message that it names. What
    /// cannot be read so is hidden whole: it may hold anything.
    fn typed_struct(self, message: &DynamicMessage) -> Vec<(String, Json)> {
        let type_url = message.get_field_by_name("type_url");
        let type_url = type_url.as_deref().and_then(Value::as_str).unwrap_or_default();
        let value = message.get_field_by_name("value");
        let value = value.as_deref().and_then(Value::as_message);
        let mut entries = vec![("type_url".to_owned(), Json::String(type_url.to_owned()))];
        let Some(value) = value else { return entries };
        let typed = self.schema.message_of(type_url).and_then(|inner| {
            read::message(self.schema, &inner, &super::struct_node(value)?, UnknownFields::Collect).ok()
        });
        let json = match typed {
            Some((typed, _)) => self.message(&typed),
            None => Self { inside_secret: true, ..self }.message(value),
        };
        entries.push(("value".to_owned(), json));
        entries
    }
}

fn is_printed_as_value(descriptor: &MessageDescriptor) -> bool {
    well_known::is_special(descriptor) || descriptor.full_name() == "google.protobuf.Any"
}

fn enum_value(kind: &Kind, number: i32) -> Json {
    let Kind::Enum(descriptor) = kind else { return Json::Int(number) };
    if descriptor.full_name() == "google.protobuf.NullValue" {
        return Json::Null;
    }
    descriptor.get_value(number).map_or(Json::Int(number), |value| Json::String(value.name().to_owned()))
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
