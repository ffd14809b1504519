//! Where an object was read, and finding the place of a problem in it.

use std::sync::Arc;

use crate::field::{FieldPath, Segment};
use crate::meta::Key;
use crate::object::Kind;
pub use crate::object::Objects;
use crate::problem::{Place, Problem};
use crate::yaml::{Node, Position};

/// An object and where it was read. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// The object.
    pub object: Arc<T>,
    /// Where it was read.
    pub origin: Origin,
}

impl<T> Stored<T> {
    /// An object and where it was read.
    pub fn new(object: T, origin: Origin) -> Self {
        Self { object: Arc::new(object), origin }
    }
}

impl<T> std::ops::Deref for Stored<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

/// Equal when the objects are: where they were read is not part of what they say.
impl<T: PartialEq> PartialEq for Stored<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.object, &other.object) || self.object == other.object
    }
}

/// Where an object was read.
#[derive(Clone, Debug, Default)]
pub enum Origin {
    /// It was made by a program: a test, or a Kubernetes API server.
    #[default]
    Elsewhere,
    /// A document of a file.
    File(Arc<FileOrigin>),
}

/// A document of a file.
#[derive(Debug)]
pub struct FileOrigin {
    /// The file's name, as users know it.
    pub file: Arc<str>,
    /// All of its text.
    pub text: Arc<str>,
    /// The object's part of the document.
    pub root: Node,
}

impl Origin {
    /// The file's name, if it was a file.
    #[must_use]
    pub fn file(&self) -> Option<&Arc<str>> {
        match self {
            Self::Elsewhere => None,
            Self::File(origin) => Some(&origin.file),
        }
    }

    /// Where `field` stands, or the nearest part of it that is there.
    #[must_use]
    pub fn place(&self, field: &FieldPath) -> Option<Place> {
        match self {
            Self::Elsewhere => None,
            Self::File(origin) => Some(place(&origin.file, &origin.text, find(&origin.root, field))),
        }
    }
}

/// The place of `at` in a file, with its line's text.
#[must_use]
pub fn place(file: &Arc<str>, text: &str, at: Position) -> Place {
    let row = usize::try_from(at.line).unwrap_or(usize::MAX).saturating_sub(1);
    let line = text.lines().nth(row).unwrap_or_default();
    Place { file: file.clone(), line: at.line, column: at.column, text: line.chars().take(240).collect() }
}

/// Finds a field of the storage form in what may be written in an older one: without `spec`, `specs` for `rules`.
fn find(root: &Node, field: &FieldPath) -> Position {
    let (at, depth) = root.locate(field);
    let [Segment::Key(spec), rest @ ..] = field.segments() else {
        return at;
    };
    if spec != "spec" || depth > 0 {
        return at;
    }
    let older = |segment: &Segment| match segment {
        Segment::Key(key) if key == "rules" && root.get("rules").is_none() => Segment::Key("specs".to_owned()),
        other => other.clone(),
    };
    root.locate(&rest.iter().map(older).collect()).0
}

impl Objects {
    /// Fills in the place of a problem that names an object read from a file; others stay as they are.
    pub fn locate(&self, problem: &mut Problem) {
        if problem.place.is_some() {
            return;
        }
        let key = Key::new(problem.object.namespace.clone(), problem.object.name.clone());
        let origin = Kind::named(&problem.object.kind).find_map(|kind| self.origin(kind, &key));
        problem.place = origin.and_then(|origin| origin.place(&problem.field));
    }
}
