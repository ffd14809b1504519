//! A document tree into a message that a descriptor describes.
//!
//! Source: protobuf's JSON mapping, with what Envoy's parser takes beyond it (measured on 1.40):
//! one value for a list of one, null in a list for an empty message, enum names in any case,
//! `"true"` for true, a duration as an object.

use std::collections::HashMap;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::Message as _;
use prost::bytes::Bytes;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};

use super::{Problem, UnknownFields, well_known};
use crate::document::{Node, Tree};
use crate::path::Path;
use crate::schema::Schema;

/// More problems than this are not told: the first ones are what matters.
const MAX_PROBLEMS: usize = 20;

const BASE64: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

pub(super) fn message(
    schema: &Schema,
    descriptor: &MessageDescriptor,
    node: &Node,
    unknown: UnknownFields,
) -> Result<(DynamicMessage, Vec<Problem>), Vec<Problem>> {
    let mut reader = Reader { schema, unknown, path: Path::default(), problems: Vec::new(), left_out: Vec::new() };
    let message = reader.message(descriptor, node);
    match message {
        Some(message) if reader.problems.is_empty() => Ok((message, reader.left_out)),
        _ => Err(reader.problems),
    }
}

/// Walks tree and descriptor side by side. A method that returns `None` has noted a problem.
pub(super) struct Reader<'s> {
    schema: &'s Schema,
    unknown: UnknownFields,
    path: Path,
    problems: Vec<Problem>,
    left_out: Vec<Problem>,
}

impl Reader<'_> {
    pub(super) fn problem<T>(&mut self, node: &Node, message: impl Into<String>) -> Option<T> {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { path: self.path.to_string(), line: node.line, message: message.into() });
        }
        None
    }

    fn expected<T>(&mut self, node: &Node, what: &str) -> Option<T> {
        let hint = match &node.value {
            Tree::Bool(_) | Tree::Int(_) if what == "a string" => "; put it in quotes",
            _ => "",
        };
        let shown = match &node.value {
            Tree::String(text) => format!("{text:?}"),
            Tree::Int(number) => number.to_string(),
            Tree::UInt(number) => number.to_string(),
            Tree::Float(number) => number.to_string(),
            Tree::Bool(value) => value.to_string(),
            other => other.kind().to_owned(),
        };
        self.problem(node, format!("{what} is expected, not {shown}{hint}"))
    }

    pub(super) fn message(&mut self, descriptor: &MessageDescriptor, node: &Node) -> Option<DynamicMessage> {
        if descriptor.full_name() == "google.protobuf.Any" {
            return self.any(descriptor, node);
        }
        if let Some(result) = well_known::read(self, descriptor, node) {
            return result;
        }
        self.plain_message(descriptor, node)
    }

    /// A message as an object of its fields.
    pub(super) fn plain_message(&mut self, descriptor: &MessageDescriptor, node: &Node) -> Option<DynamicMessage> {
        let Tree::Map(entries) = &node.value else {
            return self.expected(node, &format!("an object ({})", descriptor.full_name()));
        };
        self.fields(descriptor, entries.iter())
    }

    fn fields<'n>(
        &mut self,
        descriptor: &MessageDescriptor,
        entries: impl Iterator<Item = &'n (String, Node)>,
    ) -> Option<DynamicMessage> {
        let mut message = DynamicMessage::new(descriptor.clone());
        for (name, node) in entries {
            self.path.push_field(name);
            self.entry(&mut message, name, node);
            self.path.pop();
        }
        Some(message)
    }

    fn entry(&mut self, message: &mut DynamicMessage, name: &str, node: &Node) {
        let descriptor = message.descriptor();
        let field = descriptor.get_field_by_name(name).or_else(|| descriptor.get_field_by_json_name(name));
        let Some(field) = field else { return self.unknown_field(&descriptor, name, node) };
        if node.value == Tree::Null && !well_known::takes_null(&field) {
            return;
        }
        if message.has_field(&field) {
            return self.problem(node, "given twice, once as in the proto and once in camel case").unwrap_or_default();
        }
        if let Some(other) = other_of_oneof(message, &field) {
            return self.problem(node, format!("cannot be set beside {other}")).unwrap_or_default();
        }
        if let Some(value) = self.field(&field, node) {
            message.set_field(&field, value);
        }
    }

    fn unknown_field(&mut self, descriptor: &MessageDescriptor, name: &str, node: &Node) {
        let hint = nearest(name, descriptor.fields().map(|field| field.name().to_owned()));
        let hint = hint.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        let message = format!("no such field in {}{hint}", descriptor.full_name());
        match self.unknown {
            UnknownFields::Refuse => self.problem(node, message).unwrap_or_default(),
            UnknownFields::Collect => {
                self.left_out.push(Problem { path: self.path.to_string(), line: node.line, message });
            }
        }
    }

    fn field(&mut self, field: &FieldDescriptor, node: &Node) -> Option<Value> {
        if field.is_map() {
            return self.map(field, node);
        }
        if !field.is_list() {
            return self.value(&field.kind(), node);
        }
        let Tree::List(items) = &node.value else {
            return Some(Value::List(vec![self.value(&field.kind(), node)?]));
        };
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            self.path.push_index(index);
            list.extend(self.item(&field.kind(), item));
            self.path.pop();
        }
        Some(Value::List(list))
    }

    fn item(&mut self, kind: &Kind, node: &Node) -> Option<Value> {
        match kind {
            Kind::Message(message) if node.value == Tree::Null && message.full_name() != "google.protobuf.Value" => {
                Some(Value::Message(DynamicMessage::new(message.clone())))
            }
            _ => self.value(kind, node),
        }
    }

    fn map(&mut self, field: &FieldDescriptor, node: &Node) -> Option<Value> {
        let Tree::Map(entries) = &node.value else { return self.expected(node, "an object") };
        let Kind::Message(entry) = field.kind() else { return None };
        let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let mut map = HashMap::with_capacity(entries.len());
        for (key, value) in entries {
            self.path.push_key(key);
            if let (Some(key), Some(value)) = (self.map_key(&key_kind, key, value), self.item(&value_kind, value)) {
                map.insert(key, value);
            }
            self.path.pop();
        }
        Some(Value::Map(map))
    }

    fn map_key(&mut self, kind: &Kind, key: &str, node: &Node) -> Option<MapKey> {
        let value = self.value(kind, &Node { value: Tree::String(key.to_owned()), line: node.line })?;
        value.into_map_key()
    }

    pub(super) fn value(&mut self, kind: &Kind, node: &Node) -> Option<Value> {
        match kind {
            Kind::Message(descriptor) => self.message(descriptor, node).map(Value::Message),
            Kind::Enum(descriptor) => self.enumeration(descriptor, node).map(Value::EnumNumber),
            Kind::String => self.string(node).map(|text| Value::String(text.to_owned())),
            Kind::Bool => self.bool(node).map(Value::Bool),
            Kind::Bytes => self.bytes(node).map(Value::Bytes),
            Kind::Double => self.double(node).map(Value::F64),
            Kind::Float => self.float(node).map(Value::F32),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => self.integer(node).map(Value::I32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => self.integer(node).map(Value::I64),
            Kind::Uint32 | Kind::Fixed32 => self.integer(node).map(Value::U32),
            Kind::Uint64 | Kind::Fixed64 => self.integer(node).map(Value::U64),
        }
    }

    pub(super) fn string<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.value {
            Tree::String(text) => Some(text),
            _ => self.expected(node, "a string"),
        }
    }

    fn bool(&mut self, node: &Node) -> Option<bool> {
        match &node.value {
            Tree::Bool(value) => Some(*value),
            Tree::String(text) if text == "true" => Some(true),
            Tree::String(text) if text == "false" => Some(false),
            _ => self.expected(node, "true or false"),
        }
    }

    fn bytes(&mut self, node: &Node) -> Option<Bytes> {
        let text = self.string(node)?;
        let alphabet = if text.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
        match GeneralPurpose::new(alphabet, BASE64).decode(text) {
            Ok(bytes) => Some(bytes.into()),
            Err(error) => self.problem(node, format!("not base64: {error}")),
        }
    }

    fn integer<N: TryFrom<i128>>(&mut self, node: &Node) -> Option<N> {
        let number = match &node.value {
            Tree::Int(number) => Some(i128::from(*number)),
            Tree::UInt(number) => Some(i128::from(*number)),
            Tree::Float(number) => whole(*number),
            Tree::String(text) => text.parse().ok().or_else(|| whole(text.parse().ok()?)),
            _ => None,
        };
        let Some(number) = number else { return self.expected(node, "a whole number") };
        match N::try_from(number) {
            Ok(number) => Some(number),
            Err(_) => self.problem(node, format!("{number} is out of range")),
        }
    }

    fn double(&mut self, node: &Node) -> Option<f64> {
        let number = match &node.value {
            Tree::Int(number) => Some(*number as f64),
            Tree::UInt(number) => Some(*number as f64),
            Tree::Float(number) => Some(*number),
            Tree::String(text) => double(text),
            _ => None,
        };
        number.or_else(|| self.expected(node, "a number"))
    }

    fn float(&mut self, node: &Node) -> Option<f32> {
        let number = self.double(node)?;
        if number.is_finite() && number.abs() > f64::from(f32::MAX) {
            return self.problem(node, format!("{number} is out of range"));
        }
        Some(number as f32)
    }

    fn enumeration(&mut self, descriptor: &EnumDescriptor, node: &Node) -> Option<i32> {
        let Tree::String(text) = &node.value else {
            if descriptor.full_name() == "google.protobuf.NullValue" && node.value == Tree::Null {
                return Some(0);
            }
            return self.integer(node);
        };
        let named = descriptor.get_value_by_name(text);
        let named = named.or_else(|| descriptor.values().find(|value| value.name().eq_ignore_ascii_case(text)));
        if let Some(value) = named {
            return Some(value.number());
        }
        if let Ok(number) = text.parse() {
            return Some(number);
        }
        let names: Vec<String> = descriptor.values().map(|value| value.name().to_owned()).collect();
        self.problem(node, format!("{text:?} is no value of {}: {}", descriptor.full_name(), names.join(", ")))
    }

    /// An object with `@type`: the fields of that message beside it, or `value` for messages that
    /// have a JSON form of their own.
    fn any(&mut self, descriptor: &MessageDescriptor, node: &Node) -> Option<DynamicMessage> {
        let Tree::Map(entries) = &node.value else { return self.expected(node, "an object with \"@type\"") };
        let mut any = DynamicMessage::new(descriptor.clone());
        if entries.is_empty() {
            return Some(any);
        }
        let Some((_, type_node)) = entries.iter().find(|(name, _)| name == "@type") else {
            return self.problem(node, "\"@type\" is missing");
        };
        self.path.push_field("@type");
        let found = self.type_named(type_node);
        self.path.pop();
        let (type_url, inner) = found?;
        let rest = entries.iter().filter(|(name, _)| name != "@type");
        let message = if inner.full_name() == "google.protobuf.Any" || well_known::is_special(&inner) {
            self.any_value(&inner, node, rest)?
        } else {
            self.fields(&inner, rest)?
        };
        any.set_field_by_name("type_url", Value::String(type_url));
        any.set_field_by_name("value", Value::Bytes(message.encode_to_vec().into()));
        Some(any)
    }

    fn any_value<'n>(
        &mut self,
        descriptor: &MessageDescriptor,
        node: &Node,
        entries: impl Iterator<Item = &'n (String, Node)>,
    ) -> Option<DynamicMessage> {
        let mut message = None;
        for (name, value) in entries {
            self.path.push_field(name);
            match name.as_str() {
                "value" => message = self.message(descriptor, value),
                _ => self.unknown_field(descriptor, name, value),
            }
            self.path.pop();
        }
        match message {
            Some(message) => Some(message),
            None if self.problems.is_empty() => self.problem(node, "\"value\" is missing"),
            None => None,
        }
    }

    fn type_named(&mut self, node: &Node) -> Option<(String, MessageDescriptor)> {
        let type_url = self.string(node)?;
        if !type_url.contains('/') {
            return self
                .problem(node, format!("{type_url:?} is no type URL; write \"type.googleapis.com/{type_url}\""));
        }
        match self.schema.message_of(type_url) {
            Some(descriptor) => Some((type_url.to_owned(), descriptor)),
            None => self.problem(node, format!("could not find @type {type_url:?}: no message of that name is known")),
        }
    }
}

/// The field of the same oneof that is set already.
fn other_of_oneof(message: &DynamicMessage, field: &FieldDescriptor) -> Option<String> {
    let oneof = field.containing_oneof()?;
    oneof.fields().find(|other| message.has_field(other)).map(|other| other.name().to_owned())
}

/// The whole number that a float is, if it is one that a float holds exactly.
fn whole(number: f64) -> Option<i128> {
    (number.fract() == 0.0 && number.abs() < 1e19).then_some(number as i128)
}

fn double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        // Rust reads "inf" and "nan" in any case; JSON does not.
        _ => text.parse().ok().filter(|number: &f64| number.is_finite()),
    }
}

/// The candidate that is a typing error away from `name`.
fn nearest(name: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let limit = (name.len() / 4).clamp(1, 3);
    let by_distance = candidates.map(|candidate| (distance(name, &candidate), candidate));
    by_distance.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

/// Levenshtein's.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, from) in left.chars().enumerate() {
        let mut diagonal = line;
        let mut last = line + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&right) {
            let above = *cell;
            let replaced = diagonal + usize::from(from != *to);
            diagonal = above;
            *cell = replaced.min(above + 1).min(last + 1);
            last = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
