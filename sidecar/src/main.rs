//! The `sidecar` program.

use clap::Parser;
use sidecar::options::Options;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let options = Options::parse();
    if let Err(error) = sidecar::logging::start(&options.log_level) {
        eprintln!("error: {error}");
        return std::process::ExitCode::FAILURE;
    }
    daemon::die_with_parent();
    match sidecar::app::run(&options) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error initializing configuration: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
