//! A YAML or JSON text as a tree with line numbers, before anything is known of its meaning.
//!
//! YAML scalars become what Envoy makes of them: a plain scalar is a bool, null or 32-bit integer
//! if it reads as one, and else a string, so that `1.10` keeps its digits until the field's type
//! is known. Quoted scalars are strings.
//!
//! Deliberate difference: a key given twice is refused, where Envoy takes one of the two.

mod json;
mod yaml;

/// The notation of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2, of which JSON is (nearly) a part. Of several documents the first counts.
    Yaml,
    Json,
}

/// One value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Tree,
    /// 1 is the first line; 0 where it is not known (JSON).
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    String(String),
    List(Vec<Node>),
    /// In the order of the text.
    Map(Vec<(String, Node)>),
}

impl Tree {
    /// What it is, for messages: "a list", "an object", …
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::UInt(_) | Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }
}

/// Why a text is no document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SyntaxError {
    pub line: usize,
    /// 1 is the first column.
    pub column: usize,
    pub message: String,
}

/// Reads `text`.
///
/// # Errors
/// When it is not well formed, is empty, gives a key twice, nests deeper than 200 levels, or
/// grows beyond a million nodes through aliases.
pub fn parse(text: &str, format: Format) -> Result<Node, SyntaxError> {
    match format {
        Format::Yaml => yaml::parse(text),
        Format::Json => json::parse(text),
    }
}

/// Deeper nesting is refused: every stage after this one walks the tree by recursion.
const MAX_DEPTH: usize = 200;
