//! What a program of ours does around its work: logging first, what went wrong on standard error, exit codes; and reading what it is given.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::Logging;

/// Runs a program's work: 2 if its logging flags are wrong, 1 if it fails, else what the work says.
pub fn run(name: &str, logging: &Logging, work: impl FnOnce() -> anyhow::Result<ExitCode>) -> ExitCode {
    if let Err(error) = logging.start() {
        eprintln!("{name}: {error}");
        return ExitCode::from(2);
    }
    work().unwrap_or_else(|error| {
        eprintln!("{name}: {error:#}");
        ExitCode::FAILURE
    })
}

/// The text of a file, or of standard input for `-`.
///
/// # Errors
/// When it cannot be read, or is no UTF-8.
pub fn text(file: &Path) -> anyhow::Result<String> {
    if file != Path::new("-") {
        return std::fs::read_to_string(file).with_context(|| format!("file {}", file.display()));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("standard input")?;
    Ok(text)
}
