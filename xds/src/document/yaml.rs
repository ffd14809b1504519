//! YAML by granit-parser's events, scalars read as Envoy's yaml-cpp loader reads them.
//!
//! Source: `parseYamlNode` in Envoy's `source/common/protobuf/yaml_utility.cc`.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{MAX_DEPTH, Node, SyntaxError, Tree};

/// How many nodes all aliases together may stand for ("billion laughs").
const MAX_ALIASED_NODES: usize = 1_000_000;

pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let options = granit_parser::options! { emit_comments: false };
    let events = Parser::new_from_str_with_options(text, options);
    let mut loader = Loader { events, anchors: HashMap::new(), aliased: 0 };
    loop {
        match loader.next()? {
            (Event::StreamEnd, span) => return Err(error_at(&span.start, "the document is empty")),
            (Event::StreamStart | Event::DocumentStart(..), _) => {}
            (event, span) => {
                let root = loader.node(event, span, 0)?;
                // An empty document is a null scalar.
                return match root.value {
                    Tree::Null => Err(error_at(&span.start, "the document is empty")),
                    _ => Ok(root),
                };
            }
        }
    }
}

struct Loader<'t> {
    events: Parser<'t, granit_parser::StrInput<'t>>,
    anchors: HashMap<usize, Anchored>,
    aliased: usize,
}

/// A node that aliases can stand for, and what each of them costs.
struct Anchored {
    node: Node,
    size: usize,
    depth: usize,
}

impl<'t> Loader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), SyntaxError> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(scan_error(&error)),
            None => Err(SyntaxError { line: 0, column: 0, message: "the document ends too early".to_owned() }),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(error_at(&span.start, &format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref()), anchor),
            Event::SequenceStart(_, anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(id) => return self.alias(id, &span, depth),
            other => return Err(error_at(&span.start, &format!("unexpected {other:?}"))),
        };
        let node = Node { value, line: span.start.line() };
        if anchor != 0 {
            let (size, depth) = measure(&node);
            self.anchors.insert(anchor, Anchored { node: node.clone(), size, depth });
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, span: &Span, depth: usize) -> Result<Node, SyntaxError> {
        let anchored = self
            .anchors
            .get(&id)
            .ok_or_else(|| error_at(&span.start, "the alias stands inside the value that it names"))?;
        self.aliased += anchored.size;
        if depth + anchored.depth > MAX_DEPTH {
            return Err(error_at(&span.start, &format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if self.aliased > MAX_ALIASED_NODES {
            return Err(error_at(&span.start, &format!("aliases stand for more than {MAX_ALIASED_NODES} values")));
        }
        Ok(anchored.node.clone())
    }

    fn list(&mut self, depth: usize) -> Result<Tree, SyntaxError> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Tree::List(list)),
                (event, span) => list.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Tree, SyntaxError> {
        let mut map = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Tree::Map(map));
            }
            let ignored = is_ignored(&event);
            let key = self.key(event, &span)?;
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, depth + 1)?;
            if ignored {
                continue;
            }
            if !seen.insert(key.clone()) {
                return Err(error_at(&span.start, &format!("duplicate key {key:?}")));
            }
            map.push((key, value));
        }
    }

    fn key(&mut self, event: Event<'t>, span: &Span) -> Result<String, SyntaxError> {
        let refused = |what: &str| error_at(&span.start, &format!("{what} cannot be a key"));
        match event {
            Event::Scalar(text, ..) => Ok(text.into_owned()),
            Event::Alias(id) => match self.alias(id, span, 0)?.value {
                Tree::String(text) => Ok(text),
                other => Err(refused(other.kind())),
            },
            Event::SequenceStart(..) => Err(refused("a list")),
            Event::MappingStart(..) => Err(refused("an object")),
            other => Err(error_at(&span.start, &format!("unexpected {other:?}"))),
        }
    }
}

/// Envoy skips entries whose key has the tag `!ignore`: a place for anchors.
fn is_ignored(key: &Event<'_>) -> bool {
    matches!(key, Event::Scalar(_, _, _, Some(tag)) if tag.suffix() == "ignore")
}

/// How many nodes, and how many levels of lists and objects.
fn measure(node: &Node) -> (usize, usize) {
    let mut size = 1;
    let mut depth = 0;
    let mut add = |child: &Node| {
        let (child_size, child_depth) = measure(child);
        size += child_size;
        depth = depth.max(child_depth + 1);
    };
    match &node.value {
        Tree::List(list) => list.iter().for_each(&mut add),
        Tree::Map(map) => map.iter().for_each(|(_, value)| add(value)),
        _ => {}
    }
    (size, depth)
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Tree {
    let string = || Tree::String(text.to_owned());
    if style != ScalarStyle::Plain || tag.is_some_and(|tag| matches!(tag.suffix(), "str" | "")) {
        return string();
    }
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Tree::Null;
    }
    plain_bool(text).map(Tree::Bool).or_else(|| plain_int(text).map(Tree::Int)).unwrap_or_else(string)
}

/// `y`, `yes`, `true`, `on` and their opposites, in lower, upper or capitalised letters.
///
/// Source: `convert<bool>::decode` in yaml-cpp.
fn plain_bool(text: &str) -> Option<bool> {
    let rest = text.get(1..)?;
    let uniform = rest.bytes().all(|byte| byte.is_ascii_lowercase())
        || (rest.bytes().all(|byte| byte.is_ascii_uppercase())
            && text.starts_with(|first: char| first.is_ascii_uppercase()));
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "true" | "on" if uniform => Some(true),
        "n" | "no" | "false" | "off" if uniform => Some(false),
        _ => None,
    }
}

/// Integers that fit in 32 bits: decimal, hexadecimal (`0x`) or octal (`0`), as C++ streams read them.
fn plain_int(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (16, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let value = i64::from_str_radix(digits, radix).ok()?;
    let value = if negative { -value } else { value };
    i32::try_from(value).ok().map(i64::from)
}

fn scan_error(error: &ScanError) -> SyntaxError {
    error_at(error.marker(), &error.info())
}

fn error_at(marker: &Marker, message: &str) -> SyntaxError {
    SyntaxError { line: marker.line(), column: marker.col() + 1, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        parse(text).unwrap().value
    }

    fn check(text: &str, expected: Tree) {
        assert_eq!(tree(text), expected, "{text}");
    }

    #[test]
    fn scalars_as_envoy_reads_them() {
        for (text, expected) in [
            ("1", Tree::Int(1)),
            ("-7", Tree::Int(-7)),
            ("010", Tree::Int(8)),
            ("0x1F", Tree::Int(31)),
            ("2147483647", Tree::Int(2_147_483_647)),
            ("2147483648", Tree::String("2147483648".into())),
            ("2.5", Tree::String("2.5".into())),
            ("1.10", Tree::String("1.10".into())),
            ("1s", Tree::String("1s".into())),
            ("08", Tree::String("08".into())),
            ("yes", Tree::Bool(true)),
            ("On", Tree::Bool(true)),
            ("FALSE", Tree::Bool(false)),
            ("n", Tree::Bool(false)),
            ("yEs", Tree::String("yEs".into())),
            ("'true'", Tree::String("true".into())),
            ("\"1\"", Tree::String("1".into())),
            ("!!str 1", Tree::String("1".into())),
            ("|\n  1\n", Tree::String("1\n".into())),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn anchors_ignored_keys_and_documents() {
        let Tree::Map(map) = tree("!ignore x: &a {k: 1}\ny: *a\nz: ~\n---\nother: 1\n") else { panic!() };
        assert_eq!(map[0].0, "y");
        assert_eq!(map[0].1.value, tree("{k: 1}"));
        assert_eq!(map[1].1, Node { value: Tree::Null, line: 3 });
    }

    #[test]
    fn refuses() {
        for (text, line, message) in [
            ("", 1, "empty"),
            ("# only a comment", 1, "empty"),
            ("a: [1", 1, ""),
            ("a: 1\nb: 2\na: 3\n", 3, "duplicate key \"a\""),
            ("[1]: 2", 1, "cannot be a key"),
            ("a: &x [*x]", 1, "alias"),
            ("a: *nowhere", 1, ""),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.message.contains(message), "{text}: {error}");
        }
        assert!(parse(&"[".repeat(10_000)).is_err());
    }

    #[test]
    fn aliases_cannot_blow_up() {
        let mut text = String::from("a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
        for level in 1..12 {
            let last = level - 1;
            text += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{last}"); 10].join(", "));
        }
        assert!(parse(&text).unwrap_err().message.contains("aliases"));
    }
}
