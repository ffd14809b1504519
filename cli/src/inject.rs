//! `outrigger inject|uninject`: what the webhook does to pods, done to files.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use injector::Settings;
use injector::manifests::{self, Change};
use pilot::kubernetes::{self, Cluster};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  outrigger inject -f web.yaml | kubectl apply -f -\n  outrigger inject --explain web.yaml"
)]
pub(crate) struct Flags {
    /// A file of objects, or `-`.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required_unless_present = "explain")]
    file: Option<PathBuf>,
    /// Say which rule decides about each workload of a file, and change nothing.
    #[arg(long, value_name = "FILE")]
    explain: Option<PathBuf>,
    #[command(flatten)]
    cluster: Reach,
}

/// A cluster whose installation says what sidecars are; without one, the defaults hold.
#[derive(Debug, clap::Args)]
struct Reach {
    /// The cluster; by default that of KUBECONFIG.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// The namespace of everything of ours.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "outrigger-system")]
    namespace: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outrigger uninject -f web-injected.yaml")]
pub(crate) struct Uninject {
    /// A file of objects, or `-`.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn inject(flags: &Flags) -> anyhow::Result<ExitCode> {
    let settings = settings(&flags.cluster)?;
    if let Some(file) = &flags.explain {
        for (workload, decision) in manifests::explain(&read(file)?, &settings)? {
            println!("{workload}: {decision}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let file = flags.file.as_deref().context("name a file by -f")?;
    print!("{}", manifests::change(&read(file)?, Change::Inject, &settings)?);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn uninject(flags: &Uninject) -> anyhow::Result<ExitCode> {
    print!("{}", manifests::change(&read(&flags.file)?, Change::Uninject, &Settings::default())?);
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file != Path::new("-") {
        return std::fs::read_to_string(file).with_context(|| format!("file {}", file.display()));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("standard input")?;
    Ok(text)
}

fn settings(reach: &Reach) -> anyhow::Result<Settings> {
    let Some(kubeconfig) = &reach.kubeconfig else { return Ok(Settings::default()) };
    let read = crate::runtime()?.block_on(async {
        let cluster = Cluster::connect(Some(kubeconfig), &reach.namespace).await?;
        kubernetes::read_settings(&cluster).await
    });
    Ok(read.unwrap_or_else(|error| {
        eprintln!("outrigger: no cluster in reach ({error:#}): the defaults hold");
        Settings::default()
    }))
}
