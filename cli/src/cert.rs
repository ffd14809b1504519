//! `outrigger cert`: the mesh's certificate authority.

use std::path::PathBuf;
use std::process::ExitCode;

use api::GoDuration;
use pilot::ca::{Ca, rotate};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The roots that are trusted.
    Show(Show),
    /// A certificate for a process that has no proxy, in files.
    Issue(crate::issue::Flags),
    /// Replaces the root with no failed request: trusted first, signing then. A pilot that runs takes it up by itself.
    #[command(
        after_help = "Example:\n  outrigger cert rotate --root --state ./state\n  outrigger cert rotate --root --finish --state ./state    # a day later"
    )]
    Rotate(Rotate),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// The pilot's state folder.
    #[arg(long, value_name = "DIR", default_value = "outrigger-state")]
    state: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    /// The pilot's state folder.
    #[arg(long, value_name = "DIR", default_value = "outrigger-state")]
    state: PathBuf,
    /// The root, which here is what signs; there is no intermediate to rotate.
    #[arg(long, required = true)]
    root: bool,
    /// How long both roots are trusted before the new one signs.
    #[arg(long, default_value = "10s")]
    overlap: GoDuration,
    /// Forget the old roots, once no certificate of theirs is in use: a day after the rotation.
    #[arg(long)]
    finish: bool,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Issue(flags) => return crate::issue::run(flags),
        Command::Show(flags) => print!("{}", Ca::open(&flags.state)?.roots()),
        Command::Rotate(flags) if flags.finish => {
            rotate::finish(&flags.state)?;
            println!("the old roots are no longer trusted");
        }
        Command::Rotate(flags) => {
            anyhow::ensure!(flags.root, "name what to rotate: --root");
            // There must be something to rotate.
            drop(Ca::open(&flags.state)?);
            rotate::begin(&flags.state)?;
            println!("both roots are trusted; waiting {} before the new one signs", flags.overlap);
            std::thread::sleep(flags.overlap.get());
            rotate::switch(&flags.state)?;
            println!("the new root signs; run this with --finish once no old certificate is in use (24h)");
        }
    }
    Ok(ExitCode::SUCCESS)
}
