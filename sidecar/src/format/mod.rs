//! Envoy's substitution formatter: `%REQ(X?Y):Z%` and its kin, compiled once, written per request.
//! Source: Envoy's "Command operators"; an operator that is not known is refused.

mod operator;

use std::fmt::Write;

use http::HeaderMap;

use crate::config::ConfigError;
use crate::request::RequestHead;
use crate::stream::Stream;

pub use operator::{MetadataOf, Operator};

/// What a format may look at.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub stream: &'a Stream,
    pub request: Option<&'a RequestHead>,
    pub response: Option<&'a HeaderMap>,
    pub trailers: Option<&'a HeaderMap>,
    /// The body of a reply of ours (`%LOCAL_REPLY_BODY%`).
    pub local_reply_body: &'a str,
}

impl<'a> Context<'a> {
    pub fn of(stream: &'a Stream) -> Self {
        Context { stream, request: None, response: None, trailers: None, local_reply_body: "" }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Operator(Operator, Option<usize>),
}

/// A compiled format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pieces: Vec<Piece>,
}

impl Format {
    /// Compiles a format.
    ///
    /// # Errors
    /// An operator that is not known, or a `%` without its end.
    pub fn parse(text: &str) -> Result<Format, ConfigError> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                plain.push('%');
                rest = after;
                continue;
            }
            let end = operator_end(rest).ok_or_else(|| {
                ConfigError::new(format!(
                    "Incorrect configuration: %{rest}. Couldn't find valid command at position {at}"
                ))
            })?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(operator_piece(&rest[..end])?);
            rest = &rest[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Format { pieces })
    }

    /// One value of metadata: the namespace, then the keys inside.
    pub fn metadata(of: MetadataOf, path: Vec<String>) -> Format {
        Format { pieces: vec![Piece::Operator(Operator::Metadata(of, path), None)] }
    }

    /// Writes the text; what is not known is `-`.
    pub fn write(&self, out: &mut String, context: &Context<'_>) {
        self.write_or(out, context, "-");
    }

    /// The text, where what is not known is nothing (headers).
    pub fn to_text_or_empty(&self, context: &Context<'_>) -> String {
        let mut out = String::new();
        self.write_or(&mut out, context, "");
        out
    }

    /// Writes the text with a word of one's own for what is not known.
    pub fn write_or(&self, out: &mut String, context: &Context<'_>, unknown: &str) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Operator(operator, limit) => {
                    let start = out.len();
                    if !operator.write(out, context) {
                        out.push_str(unknown);
                    } else if let Some(limit) = limit {
                        truncate(out, start, *limit);
                    }
                }
            }
        }
    }

    /// The value with its own type: a lone number stays one, a lone unknown is null; within text it is `unknown`.
    pub fn to_json(&self, context: &Context<'_>, unknown: &str) -> serde_json::Value {
        if let [Piece::Operator(operator, limit)] = self.pieces.as_slice() {
            if let Some(value) = operator.to_json(context) {
                return value;
            }
            let mut text = String::new();
            if !operator.write(&mut text, context) {
                return serde_json::Value::Null;
            }
            if operator.is_number()
                && let Ok(number) = text.parse::<i64>()
            {
                return number.into();
            }
            if let Some(limit) = limit {
                truncate(&mut text, 0, *limit);
            }
            return text.into();
        }
        let mut text = String::new();
        self.write_or(&mut text, context, unknown);
        text.into()
    }
}

/// Where the operator ends: the next `%` outside parentheses.
fn operator_end(rest: &str) -> Option<usize> {
    let mut depth = 0u32;
    rest.char_indices().find_map(|(at, c)| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '%' if depth == 0 => return Some(at),
            _ => {}
        }
        None
    })
}

fn operator_piece(text: &str) -> Result<Piece, ConfigError> {
    let (head, limit) = match text.rsplit_once(':') {
        Some((head, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            (head, digits.parse().ok())
        }
        _ => (text, None),
    };
    let (name, argument) = match head.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')')),
        None => (head, None),
    };
    let operator = Operator::parse(name, argument)
        .ok_or_else(|| ConfigError::new(format!("Not supported field in StreamInfo: {name}")))?;
    Ok(Piece::Operator(operator, limit))
}

fn truncate(out: &mut String, start: usize, limit: usize) {
    if let Some((at, _)) = out.get(start..).and_then(|added| added.char_indices().nth(limit)) {
        out.truncate(start + at);
    }
}

/// Appends something that can be displayed; always known.
fn put(out: &mut String, value: impl std::fmt::Display) -> bool {
    let _ = write!(out, "{value}");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read() {
        for (text, pieces) in [("plain", 1), ("a%%b", 1), ("%REQ(:PATH)%", 1), ("x %START_TIME(%Y)% %REQ(A?B):5%!", 5)]
        {
            assert_eq!(Format::parse(text).unwrap().pieces.len(), pieces, "{text}");
        }
        for text in ["%", "%NO_SUCH%", "%REQ(", "100%"] {
            assert!(Format::parse(text).is_err(), "{text}");
        }
    }
}
