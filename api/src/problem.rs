//! What is wrong with an object: in one line, with the place.
//!
//! A stage that finds a problem names the object and the field; where that stands in a file is filled in by
//! [`Objects::locate`](crate::Objects::locate).

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::field::FieldPath;
use crate::meta::ObjectRef;

/// Whether a problem fails `outrigger analyze`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object, or a part of it, cannot be what its author meant.
    Error,
    /// It works, but perhaps not as its author thinks.
    Warning,
    /// Worth knowing; changes nothing.
    Note,
}

impl Severity {
    /// `error`, `warning` or `note`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// The closed list of reasons, which are also the reasons of Kubernetes Events and conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The file is no YAML or JSON, or no text.
    Syntax,
    /// A field that the kind does not have.
    UnknownField,
    /// A kind or version that is not known here, in a group that is.
    UnknownKind,
    /// A field has another type than its kind says.
    WrongType,
    /// A field that must be there is not.
    MissingField,
    /// A value of the right type that makes no sense: a bad duration, a percentage over 100.
    InvalidValue,
    /// A regular expression that cannot be read. Its match never matches, and never allows.
    BadRegex,
    /// Something named does not exist.
    MissingReference,
    /// The same object in two places, or a second object where there can be one.
    Duplicate,
    /// A backend of a split lacks a port of the root service.
    PortMismatch,
    /// Two objects speak for one thing; the older wins.
    Conflict,
    /// A split names its root service as a backend.
    SelfReference,
    /// A split has no backend that could serve.
    NoUsableBackend,
    /// A target speaks for a service account of another namespace.
    ForeignDestination,
    /// A target without sources or rules.
    AllowsNothing,
    /// A regular expression that means something else when only its beginning is anchored.
    PathRegex,
    /// Something that is read but not enforced here.
    Unenforced,
}

impl Reason {
    /// The word, in Kubernetes' CamelCase.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "Syntax",
            Self::UnknownField => "UnknownField",
            Self::UnknownKind => "UnknownKind",
            Self::WrongType => "WrongType",
            Self::MissingField => "MissingField",
            Self::InvalidValue => "InvalidValue",
            Self::BadRegex => "BadRegex",
            Self::MissingReference => "MissingReference",
            Self::Duplicate => "Duplicate",
            Self::PortMismatch => "PortMismatch",
            Self::Conflict => "Conflict",
            Self::SelfReference => "SelfReference",
            Self::NoUsableBackend => "NoUsableBackend",
            Self::ForeignDestination => "ForeignDestination",
            Self::AllowsNothing => "AllowsNothing",
            Self::PathRegex => "PathRegex",
            Self::Unenforced => "Unenforced",
        }
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::Syntax
            | Self::UnknownField
            | Self::UnknownKind
            | Self::WrongType
            | Self::MissingField
            | Self::InvalidValue
            | Self::BadRegex
            | Self::MissingReference
            | Self::Duplicate => Severity::Error,
            Self::PortMismatch
            | Self::Conflict
            | Self::SelfReference
            | Self::NoUsableBackend
            | Self::ForeignDestination
            | Self::AllowsNothing
            | Self::Unenforced => Severity::Warning,
            Self::PathRegex => Severity::Note,
        }
    }

    /// Whether the object cannot be read at all, so that its last good version goes on serving.
    #[must_use]
    pub const fn unreadable(self) -> bool {
        matches!(
            self,
            Self::Syntax
                | Self::UnknownField
                | Self::UnknownKind
                | Self::WrongType
                | Self::MissingField
                | Self::InvalidValue
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A place in a file, and the text that stands there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named on the command line, or found below the folder named there.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// The line's text, without its end.
    pub text: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of problem; decides the severity.
    pub reason: Reason,
    /// One line that says what is wrong and, where it can be said, what holds instead.
    pub message: String,
    /// What to do about it, when that is known.
    pub help: Option<String>,
    /// Whose problem it is.
    pub object: ObjectRef,
    /// Where in the object.
    pub field: FieldPath,
    /// Where in a file, once located.
    pub place: Option<Place>,
}

impl Problem {
    /// A problem of `object` as a whole, not yet located.
    ///
    /// What manifests say stands in messages and names; control characters of it become spaces, so that a line stays a line
    /// and a terminal does nothing odd.
    pub fn new(reason: Reason, object: ObjectRef, message: impl Into<String>) -> Self {
        let object = ObjectRef {
            kind: printable(object.kind),
            namespace: printable(object.namespace),
            name: printable(object.name),
        };
        let message = printable(message.into());
        Self { reason, message, help: None, object, field: FieldPath::root(), place: None }
    }

    /// The same, at a field.
    #[must_use]
    pub fn at(mut self, field: FieldPath) -> Self {
        self.field = field;
        self
    }

    /// The same, with what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(printable(help.into()));
        self
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.reason.severity()
    }
}

fn printable(text: String) -> String {
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

/// One line, as in a log: `shop.yaml:12:7: error[BadRegex]: TrafficSplit shop/reviews: …`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", place.file, place.line, place.column)?;
        }
        write!(f, "{}[{}]: ", self.severity().as_str(), self.reason)?;
        if !self.object.kind.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        f.write_str(&self.message)
    }
}
