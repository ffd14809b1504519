//! `outrigger cert`: the mesh's certificate authority.

use std::path::PathBuf;
use std::process::ExitCode;

use api::GoDuration;
use pilot::ca::Ca;
use pilot::ca::rotate::{self, Step};
use pilot::kubernetes::Cluster;

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
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The root, which here is what signs; there is no intermediate to rotate.
    #[arg(long, required = true)]
    root: bool,
    /// How long both roots are trusted before the new one signs.
    #[arg(long, default_value = "10s")]
    overlap: GoDuration,
    /// The cluster whose CA it is; by default that of KUBECONFIG, unless --state is given.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// The namespace of everything of ours in it.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "outrigger-system")]
    namespace: String,
    /// Forget the old roots, once no certificate of theirs is in use: a day after the rotation.
    #[arg(long)]
    finish: bool,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Issue(flags) => return crate::issue::run(flags),
        Command::Show(flags) => print!("{}", Ca::open(&flags.state)?.roots()),
        Command::Rotate(flags) => rotate_root(flags)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn rotate_root(flags: &Rotate) -> anyhow::Result<()> {
    anyhow::ensure!(flags.root, "name what to rotate: --root");
    if flags.finish {
        step(flags, Step::Finish)?;
        println!("the old roots are no longer trusted");
        return Ok(());
    }
    step(flags, Step::Begin)?;
    println!("both roots are trusted; waiting {} before the new one signs", flags.overlap);
    std::thread::sleep(flags.overlap.get());
    step(flags, Step::Switch)?;
    println!("the new root signs; run this with --finish once no old certificate is in use (24h)");
    Ok(())
}

fn step(flags: &Rotate, step: Step) -> anyhow::Result<()> {
    match (&flags.state, &flags.kubeconfig) {
        (None, Some(kubeconfig)) => crate::runtime()?.block_on(async {
            let cluster = Cluster::connect(Some(kubeconfig), &flags.namespace).await?;
            Ok(pilot::ca::kubernetes::rotate(&cluster.client, &cluster.namespace, step).await?)
        }),
        (state, _) => {
            let folder = state.clone().unwrap_or_else(|| PathBuf::from("outrigger-state"));
            // There must be something to rotate.
            drop(Ca::open(&folder)?);
            match step {
                Step::Begin => rotate::begin(&folder)?,
                Step::Switch => rotate::switch(&folder)?,
                Step::Finish => rotate::finish(&folder)?,
            }
            Ok(())
        }
    }
}
