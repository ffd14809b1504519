//! Whether a message keeps the rules written into Envoy's protos, and what in it is unknown or on
//! its way out; inside every `Any` and `TypedStruct` too.
//!
//! Says only what is so. Whether an unknown field is an error is the caller's decision: in a
//! static bootstrap it is, in a dynamic resource it is counted and ignored, as Envoy does.
//!
//! Source: protoc-gen-validate's C++ templates; `DeprecatedFieldsVisitor` in Envoy's
//! `source/common/protobuf/utility.cc`.

mod rules;
mod walk;

use std::fmt;

use prost::DecodeError;
use prost_reflect::DynamicMessage;

use crate::schema::Schema;

/// A value that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `static_resources.clusters[1].connect_timeout`
    pub path: String,
    /// As protoc-gen-validate words it: `value must be greater than 0s`.
    pub reason: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.reason)
    }
}

/// A field or enum value that Envoy deprecates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deprecated {
    pub path: String,
    /// Full name of the field or enum value.
    pub name: String,
    /// The API version since when, such as `3.0`; may be empty.
    pub since: String,
    /// Envoy refuses it unless its runtime says otherwise (`disallowed_by_default`).
    pub disallowed: bool,
}

/// An `Any` whose type is not known, or whose bytes are no message of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    pub path: String,
    pub type_url: String,
    /// Why its bytes could not be read; empty if the type is not known.
    pub reason: String,
}

/// What an inspection found; at most [`Findings::MAX`] of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub violations: Vec<Violation>,
    /// Fields that the message does not have, as `path.#NUMBER` (or `path.NAME` in a `TypedStruct`).
    pub unknown_fields: Vec<String>,
    pub deprecated: Vec<Deprecated>,
    pub opaque: Vec<Opaque>,
}

impl Findings {
    /// More are not kept: a hostile message must not fill the memory with complaints.
    pub const MAX: usize = 100;

    /// `Ok` if no rule is broken.
    ///
    /// # Errors
    /// The first violation, worded as Envoy would.
    pub fn check(&self) -> Result<(), Invalid> {
        match self.violations.first() {
            None => Ok(()),
            Some(first) => Err(Invalid(first.clone())),
        }
    }
}

/// A rule is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Proto constraint validation failed ({0})")]
pub struct Invalid(pub Violation);

/// Why a resource cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("message type {0} is not known")]
    UnknownType(String),
    #[error("not a {type_name}: {source}")]
    Decode { type_name: String, source: DecodeError },
}

/// Looks at a whole message.
pub fn inspect(schema: &Schema, message: &DynamicMessage) -> Findings {
    walk::inspect(schema, message)
}

/// Decodes what an `Any` holds and looks at it.
///
/// # Errors
/// When the type is not known or the bytes are not of that type.
pub fn inspect_any(schema: &Schema, type_url: &str, bytes: &[u8]) -> Result<(DynamicMessage, Findings), InspectError> {
    let descriptor = schema.message_of(type_url).ok_or_else(|| InspectError::UnknownType(type_url.to_owned()))?;
    let type_name = descriptor.full_name().to_owned();
    let message =
        DynamicMessage::decode(descriptor, bytes).map_err(|source| InspectError::Decode { type_name, source })?;
    let findings = inspect(schema, &message);
    Ok((message, findings))
}

#[cfg(test)]
mod tests;
