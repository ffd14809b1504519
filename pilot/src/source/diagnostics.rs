//! How problems are shown: as text for people, with the line and a mark below what is meant, and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write;

use api::{Kind, ObjectRef, Objects, Problem, Severity};
use serde::Serialize;

/// An object with what is wrong with it, as `/debug/configz` and `outrigger analyze -o json` list it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Kind, namespace and name.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// Empty when all is well.
    pub problems: Vec<ProblemEntry>,
}

/// A problem in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProblemEntry {
    /// The reason, in CamelCase.
    pub reason: &'static str,
    /// `error`, `warning` or `note`.
    pub severity: Severity,
    /// One line.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The field, as `spec.backends[0].weight`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// The file, for objects from manifests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// From 1, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl From<&Problem> for ProblemEntry {
    fn from(problem: &Problem) -> Self {
        let place = problem.place.as_ref();
        Self {
            reason: problem.reason.as_str(),
            severity: problem.severity(),
            message: problem.message.clone(),
            help: problem.help.clone(),
            field: problem.field.to_string(),
            file: place.map(|p| p.file.to_string()),
            line: place.map(|p| p.line),
            column: place.map(|p| p.column),
        }
    }
}

/// Every object that is read and every one that has a problem, by kind, namespace and name.
#[must_use]
pub fn entries(objects: &Objects, problems: &[Problem]) -> Vec<Entry> {
    let mut by_object: BTreeMap<ObjectRef, Vec<ProblemEntry>> = BTreeMap::new();
    for kind in Kind::ALL {
        for key in objects.keys(*kind) {
            by_object.entry(ObjectRef::new(*kind, key)).or_default();
        }
    }
    for problem in problems {
        by_object.entry(problem.object.clone()).or_default().push(problem.into());
    }
    by_object.into_iter().map(|(object, problems)| Entry { object, problems }).collect()
}

/// Whether to colour a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// For a terminal.
    Ansi,
    /// For everything else, and where `NO_COLOR` is set.
    Plain,
}

impl Colour {
    fn paint(self, code: &'static str, text: &str) -> String {
        match self {
            Self::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

const BOLD: &str = "1";
const BLUE: &str = "1;34";

fn severity_colour(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "1;31",
        Severity::Warning => "1;33",
        Severity::Note => "1;32",
    }
}

/// A problem as a compiler would show it: what, where, the line with a mark, and what to do. Ends with a line end.
#[must_use]
pub fn render(problem: &Problem, colour: Colour) -> String {
    let severity = problem.severity();
    let head = format!("{}[{}]", severity.as_str(), problem.reason);
    let mut out = format!("{}: ", colour.paint(severity_colour(severity), &head));
    let object = if problem.object.kind.is_empty() { String::new() } else { format!("{}: ", problem.object) };
    let _ = writeln!(out, "{}", colour.paint(BOLD, &format!("{object}{}", problem.message)));
    let width = problem.place.as_ref().map_or(1, |p| p.line.to_string().len());
    if let Some(place) = &problem.place {
        let bar = colour.paint(BLUE, "|");
        let arrow = colour.paint(BLUE, "-->");
        let _ = writeln!(out, "{:width$}{arrow} {}:{}:{}", "", place.file, place.line, place.column);
        if !place.text.trim().is_empty() {
            let (text, column) = excerpt(&place.text, place.column);
            let number = colour.paint(BLUE, &place.line.to_string());
            let _ = writeln!(out, "{:width$} {bar}", "");
            let _ = writeln!(out, "{number} {bar} {text}");
            let mark = colour.paint(severity_colour(severity), &"^".repeat(marked(&text, column)));
            let _ = writeln!(out, "{:width$} {bar} {:column$}{mark}", "", "");
        }
    }
    if let Some(help) = &problem.help {
        let _ = writeln!(out, "{:width$} {} {}", "", colour.paint(BLUE, "="), format_args!("help: {help}"));
    }
    out
}

/// The part of a line around a column (from 1) that fits a screen, and the offset of the column in it. Tabs and control
/// characters, which would move the mark or the terminal, become spaces.
fn excerpt(line: &str, column: u32) -> (String, usize) {
    const BEFORE: usize = 60;
    const WIDTH: usize = 120;
    let column = usize::try_from(column).unwrap_or(1).saturating_sub(1);
    let skip = column.saturating_sub(BEFORE);
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    (line.chars().skip(skip).take(WIDTH).map(clean).collect(), column - skip)
}

/// How many characters to mark: the word or the quoted text that begins at `column`.
fn marked(text: &str, column: usize) -> usize {
    let rest = text.get(text.char_indices().nth(column).map_or(text.len(), |(at, _)| at)..).unwrap_or_default();
    let mut chars = rest.chars();
    let length = match chars.next() {
        Some(quote @ ('"' | '\'')) => chars.position(|c| c == quote).map_or(1, |n| n + 2),
        _ => rest.chars().take_while(|c| !c.is_whitespace() && !matches!(c, ',' | ':' | ']' | '}')).count(),
    };
    length.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::files;

    /// The text that `render` gives for everything that is wrong with one manifest.
    fn check(manifest: &str, expected: &str) {
        let folder = tempfile(manifest);
        let observed = files::read_once(std::slice::from_ref(&folder)).unwrap();
        let shown: String = observed.problems.iter().map(|p| render(p, Colour::Plain)).collect();
        let shown = shown
            .replace(&folder.display().to_string(), "shop.yaml")
            .replace(&folder.file_name().unwrap().to_string_lossy().into_owned(), "shop.yaml");
        std::fs::remove_file(&folder).unwrap();
        assert_eq!(shown, expected, "\n{shown}");
    }

    fn tempfile(text: &str) -> std::path::PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("outrigger-{}-{}.yaml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn an_unknown_field() {
        check(
            "apiVersion: mesh.outrigger.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  targetRef: {kind: Service, name: web}\n  timeouts: {request: 1s}\n",
            "\
error[UnknownField]: TrafficPolicy shop/p: unknown field `spec.timeouts`
 --> shop.yaml:6:3
  |
6 |   timeouts: {request: 1s}
  |   ^^^^^^^^
  = help: did you mean `timeout`?
",
        );
    }

    #[test]
    fn a_bad_duration_and_a_bad_regex() {
        check(
            "apiVersion: mesh.outrigger.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: p, namespace: shop}\nspec: {targetRef: {name: web}, timeout: {request: soon}}\n---\napiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {name: g}\nspec:\n  matches:\n  - name: m\n    pathRegex: \"/a(\"\n",
            "\
error[InvalidValue]: TrafficPolicy shop/p: `spec.timeout.request`: bad duration `soon`: write a number and a unit, like 250ms, 2s or 1m30s
 --> shop.yaml:4:51
  |
4 | spec: {targetRef: {name: web}, timeout: {request: soon}}
  |                                                   ^^^^
error[BadRegex]: HTTPRouteGroup default/g: bad regex `/a(`: unclosed group
  --> shop.yaml:12:16
   |
12 |     pathRegex: \"/a(\"
   |                ^^^^^
   = help: until it is mended, its match accepts nothing
",
        );
    }

    #[test]
    fn a_slip_of_the_pen() {
        check(
            "apiVersion: split.smi-spec.io/v1alpha4\nkind: TraficSplit\nmetadata: {name: s}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: 7}\n---\n- 1\n",
            "\
error[UnknownKind]: TraficSplit s: unknown kind `TraficSplit` in group `split.smi-spec.io`
 --> shop.yaml:2:7
  |
2 | kind: TraficSplit
  |       ^^^^^^^^^^^
  = help: did you mean `TrafficSplit`?
error[WrongType]: Service: `metadata.name` has the wrong type: expected a text, found the number `7`
 --> shop.yaml:7:18
  |
7 | metadata: {name: 7}
  |                  ^
  = help: put the value in quotes
error[WrongType]: Manifest shop.yaml: this is no object: expected a map with `apiVersion`, `kind` and `metadata`
 --> shop.yaml:9:1
  |
9 | - 1
  | ^
",
        );
    }
}
