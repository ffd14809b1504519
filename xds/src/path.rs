//! The path of a field inside a message: `static_resources.clusters[1].connect_timeout`.

use std::fmt;

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Field(Box<str>),
    Index(usize),
    Key(Box<str>),
}

/// A path that grows and shrinks as a message is walked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(Vec<Segment>);

impl Path {
    pub(crate) fn push_field(&mut self, name: &str) {
        self.0.push(Segment::Field(name.into()));
    }

    pub(crate) fn push_index(&mut self, index: usize) {
        self.0.push(Segment::Index(index));
    }

    pub(crate) fn push_key(&mut self, key: &str) {
        self.0.push(Segment::Key(key.into()));
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }

    /// The path of a field of the message that this path leads to.
    pub(crate) fn field(&self, name: &str) -> String {
        if self.0.is_empty() { name.to_owned() } else { format!("{self}.{name}") }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Field(name) if place == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => write!(f, "[{key}]")?,
            }
        }
        Ok(())
    }
}
