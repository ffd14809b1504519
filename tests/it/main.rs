//! All integration tests, as one program.

mod demo;
mod tidy;
