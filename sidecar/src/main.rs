//! The `sidecar` program.

use clap::Parser;
use sidecar::options::Options;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let options = Options::parse();
    // Envoy's level names; the libraries below say little of use under warn.
    let level = match options.log_level.as_str() {
        "critical" => "error",
        "off" => "off",
        level => level,
    };
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match sidecar::app::run(&options) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error initializing configuration: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
