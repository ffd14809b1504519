//! Messages with a JSON form of their own: durations, times, wrappers, structs, masks.
//!
//! Source: protobuf's JSON mapping, "well-known types".

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::{self as pb, value::Kind as ValueKind};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value};

use super::printer::Json;
use super::read::Reader;
use crate::document::{Node, Tree};

/// The largest duration, in seconds: about 10,000 years.
const MAX_SECONDS: i64 = 315_576_000_000;

/// Whether the message has a form of its own (`Any` has too, and is treated apart).
pub(super) fn is_special(message: &MessageDescriptor) -> bool {
    let name = message.full_name();
    is_wrapper(name) || matches!(short(name), "Duration" | "Timestamp" | "Struct" | "Value" | "ListValue" | "FieldMask")
}

fn short(full_name: &str) -> &str {
    full_name.strip_prefix("google.protobuf.").unwrap_or_default()
}

fn is_wrapper(full_name: &str) -> bool {
    matches!(
        short(full_name),
        "DoubleValue"
            | "FloatValue"
            | "Int64Value"
            | "UInt64Value"
            | "Int32Value"
            | "UInt32Value"
            | "BoolValue"
            | "StringValue"
            | "BytesValue"
    )
}

/// Whether null is a value of the field and not its absence.
pub(super) fn takes_null(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Message(message) => message.full_name() == "google.protobuf.Value",
        Kind::Enum(kind) => kind.full_name() == "google.protobuf.NullValue",
        _ => false,
    }
}

/// Reads a message with a form of its own; `None` if it has none, `Some(None)` after a problem.
pub(super) fn read(
    reader: &mut Reader<'_>,
    descriptor: &MessageDescriptor,
    node: &Node,
) -> Option<Option<DynamicMessage>> {
    if !is_special(descriptor) {
        return None;
    }
    let is_object = matches!(node.value, Tree::Map(_));
    Some(match short(descriptor.full_name()) {
        "Duration" | "Timestamp" | "FieldMask" if is_object => reader.plain_message(descriptor, node),
        "Duration" => duration(reader, descriptor, node),
        "Timestamp" => timestamp(reader, descriptor, node),
        "FieldMask" => field_mask(reader, descriptor, node),
        "Struct" if !is_object => reader.problem(node, format!("an object is expected, not {}", node.value.kind())),
        "ListValue" if !matches!(node.value, Tree::List(_)) => {
            reader.problem(node, format!("a list is expected, not {}", node.value.kind()))
        }
        "Struct" | "ListValue" | "Value" => Some(structure(descriptor, node)),
        _ => wrapper(reader, descriptor, node),
    })
}

fn wrapper(reader: &mut Reader<'_>, descriptor: &MessageDescriptor, node: &Node) -> Option<DynamicMessage> {
    let field = descriptor.get_field(1)?;
    let mut message = DynamicMessage::new(descriptor.clone());
    // Envoy takes the object form too.
    if matches!(node.value, Tree::Map(_)) {
        return reader.plain_message(descriptor, node);
    }
    message.set_field(&field, reader.value(&field.kind(), node)?);
    Some(message)
}

fn duration(reader: &mut Reader<'_>, descriptor: &MessageDescriptor, node: &Node) -> Option<DynamicMessage> {
    let parsed = match &node.value {
        Tree::String(text) => parse_duration(text).ok_or_else(|| format!("{text:?}")),
        Tree::Int(number) => Err(number.to_string()),
        other => Err(other.kind().to_owned()),
    };
    match parsed {
        Ok((seconds, nanos)) => Some(seconds_and_nanos(descriptor, seconds, nanos)),
        Err(shown) => reader.problem(node, format!("a duration in seconds such as \"1.5s\" is expected, not {shown}")),
    }
}

/// `-1.5s` as seconds and nanoseconds of the same sign.
fn parse_duration(text: &str) -> Option<(i64, i32)> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let digits = digits.strip_suffix('s')?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    let sign = if negative { -1 } else { 1 };
    (seconds <= MAX_SECONDS).then_some((i64::from(sign) * seconds, sign * nanos))
}

fn timestamp(reader: &mut Reader<'_>, descriptor: &MessageDescriptor, node: &Node) -> Option<DynamicMessage> {
    let text = reader.string(node)?;
    match text.parse::<prost_types::Timestamp>() {
        Ok(time) => Some(seconds_and_nanos(descriptor, time.seconds, time.nanos)),
        Err(_) => reader.problem(node, format!("a time such as \"2026-01-02T03:04:05Z\" is expected, not {text:?}")),
    }
}

fn seconds_and_nanos(descriptor: &MessageDescriptor, seconds: i64, nanos: i32) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field_by_name("seconds", Value::I64(seconds));
    message.set_field_by_name("nanos", Value::I32(nanos));
    message
}

fn field_mask(reader: &mut Reader<'_>, descriptor: &MessageDescriptor, node: &Node) -> Option<DynamicMessage> {
    let text = reader.string(node)?;
    let paths = text.split(',').filter(|path| !path.is_empty()).map(|path| Value::String(snake_case(path)));
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field_by_name("paths", Value::List(paths.collect()));
    Some(message)
}

fn snake_case(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len());
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn camel_case(snake: &str) -> String {
    let mut camel = String::with_capacity(snake.len());
    let mut upper = false;
    for letter in snake.chars() {
        match letter {
            '_' => upper = true,
            letter if upper => {
                camel.push(letter.to_ascii_uppercase());
                upper = false;
            }
            letter => camel.push(letter),
        }
    }
    camel
}

/// `Struct`, `ListValue` or `Value` from a tree of the fitting kind.
fn structure(descriptor: &MessageDescriptor, node: &Node) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    let (name, value) = match (short(descriptor.full_name()), &node.value) {
        ("Struct", Tree::Map(entries)) => ("fields", struct_fields(descriptor, entries)),
        ("ListValue", Tree::List(items)) => ("values", list_values(descriptor, items)),
        (_, Tree::Null) => ("null_value", Some(Value::EnumNumber(0))),
        (_, Tree::Bool(value)) => ("bool_value", Some(Value::Bool(*value))),
        (_, Tree::Int(number)) => ("number_value", Some(Value::F64(*number as f64))),
        (_, Tree::UInt(number)) => ("number_value", Some(Value::F64(*number as f64))),
        (_, Tree::Float(number)) => ("number_value", Some(Value::F64(*number))),
        (_, Tree::String(text)) => ("string_value", Some(Value::String(text.clone()))),
        (_, Tree::Map(_)) => ("struct_value", nested(descriptor, "struct_value", node)),
        (_, Tree::List(_)) => ("list_value", nested(descriptor, "list_value", node)),
    };
    if let Some(value) = value {
        message.set_field_by_name(name, value);
    }
    message
}

fn message_kind(descriptor: &MessageDescriptor, field: &str) -> Option<MessageDescriptor> {
    match descriptor.get_field_by_name(field)?.kind() {
        Kind::Message(message) => Some(message),
        _ => None,
    }
}

fn nested(descriptor: &MessageDescriptor, field: &str, node: &Node) -> Option<Value> {
    Some(Value::Message(structure(&message_kind(descriptor, field)?, node)))
}

fn struct_fields(descriptor: &MessageDescriptor, entries: &[(String, Node)]) -> Option<Value> {
    let entry = message_kind(descriptor, "fields")?;
    let Kind::Message(value) = entry.map_entry_value_field().kind() else { return None };
    let pairs =
        entries.iter().map(|(key, node)| (MapKey::String(key.clone()), Value::Message(structure(&value, node))));
    Some(Value::Map(pairs.collect::<HashMap<_, _>>()))
}

fn list_values(descriptor: &MessageDescriptor, items: &[Node]) -> Option<Value> {
    let value = message_kind(descriptor, "values")?;
    Some(Value::List(items.iter().map(|node| Value::Message(structure(&value, node))).collect()))
}

/// A decoded `Struct` as a tree, for reading a message out of it.
pub(super) fn struct_to_node(value: &pb::Struct) -> Node {
    let mut entries: Vec<(String, Node)> =
        value.fields.iter().map(|(key, value)| (key.clone(), value_to_node(value))).collect();
    entries.sort_by(|(left, _), (right, _)| left.cmp(right));
    Node { value: Tree::Map(entries), line: 0 }
}

fn value_to_node(value: &pb::Value) -> Node {
    let tree = match &value.kind {
        None | Some(ValueKind::NullValue(_)) => Tree::Null,
        Some(ValueKind::BoolValue(value)) => Tree::Bool(*value),
        Some(ValueKind::NumberValue(number)) => Tree::Float(*number),
        Some(ValueKind::StringValue(text)) => Tree::String(text.clone()),
        Some(ValueKind::StructValue(inner)) => return struct_to_node(inner),
        Some(ValueKind::ListValue(list)) => Tree::List(list.values.iter().map(value_to_node).collect()),
    };
    Node { value: tree, line: 0 }
}

/// Prints a message with a form of its own; `None` if it has none or holds what the form cannot say.
pub(super) fn write(message: &DynamicMessage, print_value: impl Fn(&Value, &Kind) -> Json) -> Option<Json> {
    let descriptor = message.descriptor();
    if !is_special(&descriptor) {
        return None;
    }
    match short(descriptor.full_name()) {
        "Duration" => format_duration(message).map(Json::String),
        "Timestamp" => format_timestamp(message).map(Json::String),
        "FieldMask" => {
            let paths = message.get_field_by_name("paths")?;
            let paths = paths.as_list()?.iter().filter_map(Value::as_str).map(camel_case);
            Some(Json::String(paths.collect::<Vec<_>>().join(",")))
        }
        "Struct" => {
            let field = descriptor.get_field_by_name("fields")?;
            let fields = message.get_field(&field);
            let value_kind = message_kind(&descriptor, "fields")?.map_entry_value_field().kind();
            let mut entries: Vec<(String, Json)> = fields
                .as_map()?
                .iter()
                .filter_map(|(key, value)| Some((key.as_str()?.to_owned(), print_value(value, &value_kind))))
                .collect();
            entries.sort_by(|(left, _), (right, _)| left.cmp(right));
            Some(Json::Map(entries))
        }
        "ListValue" => {
            let field = descriptor.get_field_by_name("values")?;
            let values = message.get_field(&field);
            Some(Json::List(values.as_list()?.iter().map(|value| print_value(value, &field.kind())).collect()))
        }
        "Value" => match message.fields().next() {
            Some((field, value)) if field.name() != "null_value" => Some(print_value(value, &field.kind())),
            _ => Some(Json::Null),
        },
        _ => {
            let field = descriptor.get_field(1)?;
            Some(print_value(&message.get_field(&field), &field.kind()))
        }
    }
}

fn seconds(message: &DynamicMessage) -> Option<(i64, i32)> {
    Some((message.get_field_by_name("seconds")?.as_i64()?, message.get_field_by_name("nanos")?.as_i32()?))
}

fn format_duration(message: &DynamicMessage) -> Option<String> {
    let (seconds, nanos) = seconds(message)?;
    let same_sign = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
    if !same_sign || seconds.checked_abs()? > MAX_SECONDS || nanos.checked_abs()? >= 1_000_000_000 {
        return None;
    }
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    Some(format!("{sign}{}{}s", seconds.unsigned_abs(), fraction(nanos.unsigned_abs())))
}

/// Three, six or nine digits after the point, or nothing.
fn fraction(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        _ if nanos.is_multiple_of(1_000_000) => format!(".{:03}", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => format!(".{:06}", nanos / 1_000),
        _ => format!(".{nanos:09}"),
    }
}

fn format_timestamp(message: &DynamicMessage) -> Option<String> {
    let (seconds, nanos) = seconds(message)?;
    // Years 1 to 9999, all that the form can say.
    let valid = (-62_135_596_800..=253_402_300_799).contains(&seconds) && (0..1_000_000_000).contains(&nanos);
    valid.then(|| prost_types::Timestamp { seconds, nanos }.to_string())
}
