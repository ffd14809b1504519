//! YAML and JSON with places: documents are split and parsed into trees whose every node knows its line and column, and
//! typed values are read from those trees with errors that say where.

mod de;
mod documents;
mod node;

pub use de::{NodeError, NodeErrorKind, from_node};
pub use documents::{Document, documents};
pub use node::{Entry, Node, Position, SyntaxError, Value};
