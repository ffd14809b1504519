//! Protobuf messages from and to JSON and YAML, as Envoy reads and prints them.
//!
//! Reading is strict: an unknown field, an unknown `@type`, a value of the wrong kind is refused
//! with the field's path and line (unknown fields are collected instead where that is allowed).
//! Whether values make sense is [`crate::validate`]'s question.

mod printer;
mod read;
mod well_known;
mod write;

use std::fmt;

use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, MessageDescriptor};

pub use printer::Json;
pub use write::{Secrets, print, print_any, print_encoded};

use crate::document::{self, Format, SyntaxError};
use crate::schema::Schema;
use crate::typed_struct::TypedStruct;

/// What becomes of fields that the message does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// The text is refused.
    Refuse,
    /// They are left out and told of; Envoy's `--allow-unknown-static-fields`.
    Collect,
}

/// What is wrong with one field of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `static_resources.clusters[1].connect_timeout`; empty for the text as a whole.
    pub path: String,
    /// 1 is the first line; 0 where it is not known.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path.as_str(), self.line) {
            ("", 0) => write!(f, "{}", self.message),
            ("", line) => write!(f, "line {line}: {}", self.message),
            (path, 0) => write!(f, "{path}: {}", self.message),
            (path, line) => write!(f, "{path} (line {line}): {}", self.message),
        }
    }
}

/// Why a text is not the message that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    #[error("{}", join(.0))]
    Fields(Vec<Problem>),
    #[error("message type {0} is not known")]
    UnknownType(String),
}

fn join(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A message read from a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed<T> {
    pub message: T,
    /// Fields left out, by path; empty under [`UnknownFields::Refuse`].
    pub unknown: Vec<Problem>,
}

/// Reads a message of type `T` from `text`.
///
/// # Errors
/// [`ReadError`], with every problem found.
pub fn parse<T: Message + Name + Default>(
    schema: &Schema,
    text: &str,
    format: Format,
    unknown: UnknownFields,
) -> Result<Parsed<T>, ReadError> {
    let parsed = parse_dynamic(schema, &descriptor::<T>(schema)?, text, format, unknown)?;
    let message = to_typed(&parsed.message)?;
    Ok(Parsed { message, unknown: parsed.unknown })
}

/// Reads a message that `descriptor` describes from `text`.
///
/// # Errors
/// As [`parse`].
pub fn parse_dynamic(
    schema: &Schema,
    descriptor: &MessageDescriptor,
    text: &str,
    format: Format,
    unknown: UnknownFields,
) -> Result<Parsed<DynamicMessage>, ReadError> {
    read_node(schema, descriptor, &document::parse(text, format)?, unknown)
}

/// Reads a message from a tree that was parsed before.
///
/// # Errors
/// As [`parse`], less syntax.
pub fn read_node(
    schema: &Schema,
    descriptor: &MessageDescriptor,
    node: &document::Node,
    unknown: UnknownFields,
) -> Result<Parsed<DynamicMessage>, ReadError> {
    let (message, unknown) = read::message(schema, descriptor, node, unknown).map_err(ReadError::Fields)?;
    Ok(Parsed { message, unknown })
}

/// The message of type `T` that a dynamic one holds.
///
/// # Errors
/// When it nests deeper than protobuf decoders go (100 levels).
pub fn to_typed<T: Message + Name + Default>(message: &DynamicMessage) -> Result<T, ReadError> {
    message
        .transcode_to()
        .map_err(|error| ReadError::Fields(vec![Problem { path: String::new(), line: 0, message: error.to_string() }]))
}

/// The descriptor of `T`.
///
/// # Errors
/// When the set does not have it.
pub fn descriptor<T: Name>(schema: &Schema) -> Result<MessageDescriptor, ReadError> {
    schema.message(&T::full_name()).ok_or_else(|| ReadError::UnknownType(T::full_name()))
}

/// Reads the message inside a `TypedStruct`: the type that its `type_url` names, from its `value`.
///
/// # Errors
/// As [`parse`].
pub fn from_struct<T: Message + Name + Default>(
    schema: &Schema,
    value: &envoy_types::pb::google::protobuf::Struct,
) -> Result<T, ReadError> {
    let node = well_known::struct_to_node(value);
    // What Istio's control plane sends may be newer than we are: Istio's filters ignore it too.
    let parsed = read_node(schema, &descriptor::<T>(schema)?, &node, UnknownFields::Collect)?;
    to_typed(&parsed.message)
}

/// The message inside a `TypedStruct`, encoded, in the `Any` that could have been sent in its place.
///
/// # Errors
/// A type that is not known, or a value that is none of it.
pub fn open_struct(schema: &Schema, sealed: &TypedStruct) -> Result<Any, ReadError> {
    let name = crate::type_url::message_name(&sealed.type_url);
    let inner = schema.message(name).ok_or_else(|| ReadError::UnknownType(name.to_owned()))?;
    let node = well_known::struct_to_node(&sealed.value.clone().unwrap_or_default());
    let parsed = read_node(schema, &inner, &node, UnknownFields::Collect)?;
    Ok(Any { type_url: sealed.type_url.clone(), value: parsed.message.encode_to_vec() })
}

/// A `google.protobuf.Struct` message as a tree.
pub(crate) fn struct_node(message: &DynamicMessage) -> Option<document::Node> {
    Some(well_known::struct_to_node(&message.transcode_to().ok()?))
}

#[cfg(test)]
mod tests;
