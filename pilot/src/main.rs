//! `pilot`: flags → [`pilot::app`].

use std::process::ExitCode;

use clap::Parser;
use pilot::app::{self, Flags, Stopped};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Err(error) = flags.logging.start() {
        eprintln!("pilot: {error}");
        return ExitCode::from(2);
    }
    daemon::die_with_parent();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("pilot: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(app::run(flags));
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stopped::Usage(message)) => {
            eprintln!("pilot: {message}");
            ExitCode::from(2)
        }
        Err(Stopped::Failed(error)) => {
            eprintln!("pilot: {error:#}");
            ExitCode::FAILURE
        }
    }
}
