//! Splits a file into its documents, so that a broken one harms no other.

use super::node::{Node, Position, SyntaxError};

/// One document of a file, parsed or not.
#[derive(Clone, Debug)]
pub struct Document {
    /// The line where it begins, from 1.
    pub line: u32,
    /// The tree, with lines counted from the file's beginning.
    pub root: Result<Node, SyntaxError>,
}

/// The documents of `text` that hold anything. They are split at lines that begin with `---`, before any parsing, as
/// Kubernetes' own tools do; a document marker cannot stand at a line's beginning inside a document.
///
/// Source: Kubernetes `apimachinery/pkg/util/yaml.NewYAMLReader`.
#[must_use]
pub fn documents(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    let (mut begin, mut begin_line) = (0, 0_u32);
    let (mut offset, mut line) = (0, 0_u32);
    for part in text.split_inclusive('\n') {
        if line > begin_line && is_marker(part) {
            found.extend(document(&text[begin..offset], begin_line));
            (begin, begin_line) = (offset, line);
        }
        offset += part.len();
        line += 1;
    }
    found.extend(document(&text[begin..], begin_line));
    found
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn document(text: &str, before: u32) -> Option<Document> {
    let idle = |line: &str| {
        let line = line.trim();
        line.is_empty() || line == "---" || line == "..." || line.starts_with(['#', '%'])
    };
    if text.lines().all(idle) {
        return None;
    }
    let mut root = Node::parse(text);
    match &mut root {
        Ok(node) => node.shift(before),
        Err(SyntaxError { at: Some(Position { line, .. }), .. }) => *line += before,
        Err(_) => {}
    }
    Some(Document { line: before + 1, root })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::FieldPath;

    #[test]
    fn a_broken_document_harms_no_other() {
        let text = "a: 1\n---\nb: [1,\n---\n# nothing\n---\nc:\n  - d: x\n";
        let found = documents(text);
        assert_eq!(found.len(), 3);
        assert!(found[0].root.is_ok());
        let error = found[1].root.as_ref().unwrap_err();
        assert!(error.at.is_some_and(|at| (3..=5).contains(&at.line)), "{error:?}");
        let root = found[2].root.as_ref().unwrap();
        let (at, depth) = root.locate(&FieldPath::root().key("c").index(0).key("d"));
        assert_eq!((at.line, at.column, depth), (8, 8, 3));
    }

    #[test]
    fn words_stay_words() {
        let root = Node::parse("on: [yes, true, 1500m, 5xx, 503]").unwrap();
        let expected = ["Text(\"yes\")", "Bool(true)", "Text(\"1500m\")", "Text(\"5xx\")", "Uint(503)"];
        let super::super::Value::List(items) = &root.get("on").unwrap().value else { panic!() };
        let got: Vec<String> = items.iter().map(|i| format!("{:?}", i.value)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn the_key_that_yaml_1_1_takes_for_a_boolean() {
        let root = Node::from(serde_json::json!({"retry": {"true": ["5xx"]}, "labels": {"true": "yes"}}));
        let key = |of: &str| match &root.get(of).unwrap().value {
            super::super::Value::Map(entries) => entries[0].key.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((key("retry").as_str(), key("labels").as_str()), ("on", "true"));
    }
}
