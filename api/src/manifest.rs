//! One manifest's text → objects with their places, and what could not be read. Pure.

use std::sync::Arc;

use crate::object::{Known, nearest};
use crate::objects::{FileOrigin, place};
use crate::yaml::{Document, Node, NodeError, NodeErrorKind, Position, SyntaxError, Value, documents};
use crate::{FieldPath, Key, Kind, Object, ObjectRef, Objects, Origin, Problem, Reason, check};

/// What stands in one file.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    /// The objects that can be read, in written order.
    pub objects: Vec<(Object, Origin)>,
    /// What is wrong, located.
    pub problems: Vec<Problem>,
    /// What could not be read.
    pub lost: Lost,
}

/// What of a file could not be read, so that its last good version goes on serving.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lost {
    /// Nothing.
    #[default]
    Nothing,
    /// These objects.
    Objects(Vec<(Kind, Key)>),
    /// It cannot be told which.
    Unknown,
}

impl Lost {
    fn object(&mut self, object: Option<(Kind, Key)>) {
        match (&mut *self, object) {
            (Self::Unknown, _) => {}
            (_, None) => *self = Self::Unknown,
            (Self::Nothing, Some(object)) => *self = Self::Objects(vec![object]),
            (Self::Objects(objects), Some(object)) => objects.push(object),
        }
    }
}

/// Reads all documents of a file, JSON or YAML; a `List` counts as its items.
#[must_use]
pub fn read(file: &Arc<str>, text: &Arc<str>) -> Manifest {
    let mut reader = Reader { file, text, made: false, manifest: Manifest::default() };
    for document in documents(text) {
        reader.document(document);
    }
    reader.manifest
}

/// Reads one object that a program made, such as an API server. What is wrong with it has no place.
#[must_use]
pub fn read_json(json: serde_json::Value) -> Manifest {
    let mut reader = Reader { file: &Arc::from(""), text: &Arc::from(""), made: true, manifest: Manifest::default() };
    reader.root(json.into());
    reader.manifest
}

/// All objects of one text, the first of two with one name; for tests, and for programs that have just one file.
#[must_use]
pub fn objects(file: &str, text: &str) -> (Objects, Vec<Problem>) {
    let manifest = read(&file.into(), &text.into());
    let mut objects = Objects::default();
    for (object, origin) in manifest.objects.into_iter().rev() {
        objects.insert(object, origin);
    }
    (objects, manifest.problems)
}

/// A file that is no text: nothing can be told of what is in it.
#[must_use]
pub fn unreadable(file: &Arc<str>, why: &str) -> Manifest {
    let at = Position { line: 1, column: 1 };
    let message = format!("the file cannot be read: {why}");
    let mut problem = Problem::new(Reason::Syntax, file_reference(file), message);
    problem.place = Some(place(file, "", at));
    Manifest { problems: vec![problem], lost: Lost::Unknown, ..Manifest::default() }
}

fn file_reference(file: &str) -> ObjectRef {
    let name = file.rsplit('/').next().unwrap_or(file);
    ObjectRef { kind: "Manifest".to_owned(), namespace: String::new(), name: name.to_owned() }
}

struct Reader<'a> {
    file: &'a Arc<str>,
    text: &'a Arc<str>,
    /// By a program, not written in a file.
    made: bool,
    manifest: Manifest,
}

impl Reader<'_> {
    fn document(&mut self, document: Document) {
        match document.root {
            Ok(root) => self.root(root),
            Err(error) => self.syntax(document.line, &error),
        }
    }

    fn syntax(&mut self, line: u32, error: &SyntaxError) {
        let object = sniff(self.text, line).unwrap_or_else(|| file_reference(self.file));
        let at = error.at.unwrap_or(Position { line, column: 1 });
        let message = format!("this is no YAML: {}", error.message);
        self.report(Problem::new(Reason::Syntax, object, message), at);
        self.manifest.lost.object(None);
    }

    fn report(&mut self, mut problem: Problem, at: Position) {
        problem.place = (!self.made).then(|| place(self.file, self.text, at));
        self.manifest.problems.push(problem);
    }

    fn root(&mut self, root: Node) {
        let text = |key| root.get(key).and_then(Node::as_str);
        let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else {
            return self.no_object(&root);
        };
        if let (true, Some(Node { value: Value::List(items), .. })) = (kind.ends_with("List"), root.get("items")) {
            for item in items {
                self.root(item.clone());
            }
            return;
        }
        match Kind::lookup(api_version, kind) {
            Known::Read(kind, version) => self.object(kind, &version, root),
            Known::Foreign => {}
            Known::Mistaken { message, help } => {
                let field = if message.starts_with("unknown kind") { "kind" } else { "apiVersion" };
                let at = root.locate(&FieldPath::root().key(field)).0;
                let mut problem = Problem::new(Reason::UnknownKind, written_reference(kind, &root), message);
                problem.help = help;
                self.report(problem.at(FieldPath::root().key(field)), at);
                self.manifest.lost.object(None);
            }
        }
    }

    fn no_object(&mut self, root: &Node) {
        let missing = ["apiVersion", "kind"].into_iter().find(|key| root.get(key).and_then(Node::as_str).is_none());
        let (reason, message) = match (&root.value, missing) {
            (Value::Map(_), Some(key)) if root.get(key).is_some() => {
                (Reason::WrongType, format!("wrong type: `{key}` must be a text"))
            }
            (Value::Map(_), Some(key)) => {
                (Reason::MissingField, format!("missing field `{key}`: every object has one"))
            }
            _ => (
                Reason::WrongType,
                "this is no object: expected a map with `apiVersion`, `kind` and `metadata`".to_owned(),
            ),
        };
        let kind = root.get("kind").and_then(Node::as_str);
        let object = kind.map_or_else(|| file_reference(self.file), |kind| written_reference(kind, root));
        self.report(Problem::new(reason, object, message), root.at);
        self.manifest.lost.object(None);
    }

    fn object(&mut self, kind: Kind, version: &str, root: Node) {
        match Object::read(kind, version, &root) {
            Ok(object) => {
                let (file, text) = (self.file.clone(), self.text.clone());
                let origin = match self.made {
                    true => Origin::Elsewhere,
                    false => Origin::File(Arc::new(FileOrigin { file, text, root })),
                };
                for mut problem in check::problems(&object) {
                    problem.place = origin.place(&problem.field);
                    self.manifest.problems.push(problem);
                }
                self.manifest.objects.push((object, origin));
            }
            Err(error) => {
                let key = written_key(kind, &root);
                let object =
                    key.as_ref().map_or_else(|| written_reference(kind.as_str(), &root), |k| ObjectRef::new(kind, k));
                let at = error.at.unwrap_or(root.at);
                self.report(explain(&error, object), at);
                self.manifest.lost.object(key.map(|key| (kind, key)));
            }
        }
    }
}

/// The name and namespace as they are written, if they are.
fn written_key(kind: Kind, root: &Node) -> Option<Key> {
    let metadata = root.get("metadata")?;
    let name = metadata.get("name")?.as_str()?;
    let namespace = metadata.get("namespace").and_then(Node::as_str).unwrap_or(crate::meta::DEFAULT_NAMESPACE);
    Some(Key::new(if kind.namespaced() { namespace } else { "" }, name))
}

fn written_reference(kind: &str, root: &Node) -> ObjectRef {
    let text =
        |key| root.get("metadata").and_then(|m| m.get(key)).and_then(Node::as_str).unwrap_or_default().to_owned();
    ObjectRef { kind: kind.to_owned(), namespace: text("namespace"), name: text("name") }
}

/// Kind and name of an object whose document cannot be parsed, read off its lines for the message's sake.
fn sniff(text: &str, line: u32) -> Option<ObjectRef> {
    let from = usize::try_from(line).ok()?.saturating_sub(1);
    let lines =
        || text.lines().skip(from).enumerate().take_while(|(n, l)| *n == 0 || !l.starts_with("---")).map(|(_, l)| l);
    let word = |key: &str, inside: bool| {
        lines().find_map(|line| {
            let found = if inside { line.find(key)? } else { line.starts_with(key).then_some(0)? };
            let rest = line.get(found + key.len()..)?.trim_start();
            let word: String = rest
                .chars()
                .skip_while(|c| *c == '"')
                .take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '.'))
                .collect();
            (!word.is_empty()).then_some(word)
        })
    };
    let kind = word("kind:", false)?;
    let namespace = word("namespace:", true).unwrap_or_default();
    Some(ObjectRef { kind, namespace, name: word(" name:", true).or_else(|| word("{name:", true))? })
}

/// A reading error as a problem, with what to do.
fn explain(error: &NodeError, object: ObjectRef) -> Problem {
    let field = error.field();
    let (reason, message, help) = match &error.kind {
        NodeErrorKind::UnknownField { field: name, known } => (
            Reason::UnknownField,
            format!("unknown field `{field}`"),
            Some(suggestion(name, known, "fields that belong here: ")),
        ),
        NodeErrorKind::UnknownVariant { word, known } if field.ends_with(word) => (
            Reason::UnknownField,
            format!("unknown field `{field}`"),
            Some(suggestion(word, known, "fields that belong here: ")),
        ),
        NodeErrorKind::UnknownVariant { word, known } => (
            Reason::InvalidValue,
            format!("unknown value `{word}` of `{field}`"),
            Some(suggestion(word, known, "it must be one of: ")),
        ),
        NodeErrorKind::MissingField(_) if field.is_root() => (Reason::MissingField, error.message.clone(), None),
        NodeErrorKind::MissingField(_) => (Reason::MissingField, format!("{} in `{field}`", error.message), None),
        NodeErrorKind::WrongType => {
            let quotes = error.message.contains("expected a text, found the");
            let help = quotes.then(|| "put the value in quotes".to_owned());
            (Reason::WrongType, format!("`{field}` has the {}", error.message), help)
        }
        NodeErrorKind::Invalid if field.is_root() => (Reason::InvalidValue, error.message.clone(), None),
        NodeErrorKind::Invalid => (Reason::InvalidValue, format!("`{field}`: {}", error.message), None),
    };
    let problem = Problem::new(reason, object, message).at(field);
    match help {
        Some(help) => problem.help(help),
        None => problem,
    }
}

fn suggestion(word: &str, known: &[&str], otherwise: &str) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "no field belongs here".to_owned(),
        None => format!("{otherwise}{}", known.join(", ")),
    }
}
