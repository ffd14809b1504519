//! `injector`: the mutation for files, and the admission webhooks for whoever runs them apart from the pilot (`pilot --without injector`).
//! It asks no API server: what an installation says is in a file, and which pods are meant is decided by the webhooks' selectors.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use daemon::Logging;
use daemon::files::Changes;
use daemon::https::{self, Certificate};
use daemon::program::{self, text};
use injector::Settings;
use injector::manifests::{self, Change};
use injector::webhook::{self, Untold};
use tokio::sync::watch;

/// A file that is written in several steps is read once.
const QUIET: Duration = Duration::from_millis(50);

/// Gives pods their sidecars: in files, and as an admission webhook.
#[derive(Debug, Parser)]
#[command(
    name = "injector",
    version,
    arg_required_else_help = true,
    after_help = "Examples:\n  injector inject -f web.yaml | kubectl apply -f -\n  injector explain -f web.yaml\n  \
        injector serve --settings settings.json --tls-cert tls.crt --tls-key tls.key"
)]
struct Program {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    logging: Logging,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Workloads of a file with sidecars, to stdout; all else byte for byte.
    Inject(Changing),
    /// Workloads of a file without sidecars again, to stdout.
    Uninject {
        /// A file of objects, or `-`.
        #[arg(short = 'f', long = "filename", value_name = "FILE")]
        file: PathBuf,
    },
    /// Which rule decides about each workload of a file.
    Explain(Changing),
    /// The admission webhooks over HTTPS: `/inject`, `/validate`; `/healthz` for probes.
    Serve(Serve),
}

#[derive(Debug, clap::Args)]
struct Changing {
    /// A file of objects, or `-`.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    installation: Installation,
}

/// What an installation says of its sidecars.
#[derive(Debug, clap::Args)]
struct Installation {
    /// What key `settings.json` of ConfigMap `outrigger-injector` holds; without it the defaults.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:15017")]
    webhook: SocketAddr,
    #[command(flatten)]
    certificate: Certificate,
    #[command(flatten)]
    installation: Installation,
}

fn main() -> ExitCode {
    let program = Program::parse();
    program::run("injector", &program.logging, || run(&program.command))
}

fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Inject(flags) => {
            print!("{}", manifests::change(&text(&flags.file)?, Change::Inject, &flags.installation.read()?)?);
        }
        Command::Uninject { file } => {
            print!("{}", manifests::change(&text(file)?, Change::Uninject, &Settings::default())?);
        }
        Command::Explain(flags) => {
            for (workload, decision) in manifests::explain(&text(&flags.file)?, &flags.installation.read()?)? {
                println!("{workload}: {decision}");
            }
        }
        Command::Serve(flags) => {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(flags))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Installation {
    fn read(&self) -> anyhow::Result<Settings> {
        let Some(file) = &self.settings else { return Ok(Settings::default()) };
        serde_json::from_str(&text(file)?).with_context(|| format!("--settings {}", file.display()))
    }

    /// As they are now, and whenever the file changes; a file that cannot be read then leaves them as they were.
    fn follow(&self) -> anyhow::Result<watch::Receiver<Arc<Settings>>> {
        let mut changes = Changes::beside(self.settings.iter(), QUIET);
        let (sender, receiver) = watch::channel(Arc::new(self.read()?));
        let installation = Self { settings: self.settings.clone() };
        tokio::spawn(async move {
            while !sender.is_closed() {
                changes.next().await;
                match installation.read() {
                    Ok(settings) => drop(sender.send_replace(Arc::new(settings))),
                    Err(error) => tracing::error!("the settings stay as they were: {error:#}"),
                }
            }
        });
        Ok(receiver)
    }
}

async fn serve(flags: &Serve) -> anyhow::Result<()> {
    let router = webhook::router(flags.installation.follow()?, Untold);
    https::serve(flags.webhook, router, &flags.certificate).await
}
