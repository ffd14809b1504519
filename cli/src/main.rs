//! `outrigger`: the one program that people type.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
