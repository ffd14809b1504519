//! All integration tests, as one program.

mod capture;
mod demo;
mod examples;
mod tidy;
