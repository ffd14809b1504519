//! `outrigger install|upgrade|uninstall|render`: the charts that this program holds, put into a cluster, taken out of it, or printed.

mod apply;
mod charts;
mod remove;
mod schema;
mod values;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use pilot::kubernetes::Cluster;
use serde_json::Value;

pub(crate) use values::BadValue;

/// Sets of values for common cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// One pilot.
    #[default]
    Default,
    /// Every trace, every request logged as text.
    Demo,
    /// Two pilots and more under load.
    Ha,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Chart {
    /// The namespace of everything of ours.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "outrigger-system", value_parser = namespace)]
    namespace: String,
    /// A value, as `mtls.mode=permissive`; several by commas, and more than once.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A file of values; may be given more than once.
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where values begin.
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  outrigger install --wait\n  outrigger install --profile ha --set trustDomain=example.org\n  outrigger render | kubectl apply --server-side -f -"
)]
pub(crate) struct Install {
    #[command(flatten)]
    chart: Chart,
    /// The cluster; by default that of KUBECONFIG.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Wait until the pilot serves.
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Uninstall {
    /// The namespace of everything of ours.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "outrigger-system")]
    namespace: String,
    /// The cluster; by default that of KUBECONFIG.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

/// How long `--wait` waits.
const PATIENCE: Duration = Duration::from_secs(150);

pub(crate) fn render(flags: &Chart) -> anyhow::Result<ExitCode> {
    for object in objects(flags)? {
        println!("---");
        print!("{}", serde_saphyr::to_string(&object)?);
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn install(flags: &Install) -> anyhow::Result<ExitCode> {
    let objects = objects(&flags.chart)?;
    crate::runtime()?.block_on(async {
        let cluster = Cluster::connect(flags.kubeconfig.as_deref(), &flags.chart.namespace).await?;
        apply::all(&cluster, &objects).await?;
        if flags.wait {
            tokio::time::timeout(PATIENCE, apply::served(&cluster, &objects)).await.map_err(|_| {
                anyhow::anyhow!(
                    "the pilot does not serve after {} s: see `kubectl -n {} describe pods`",
                    PATIENCE.as_secs(),
                    cluster.namespace
                )
            })??;
        }
        eprintln!("outrigger: installed in namespace {}", cluster.namespace);
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn uninstall(flags: &Uninstall) -> anyhow::Result<ExitCode> {
    crate::runtime()?.block_on(async {
        let cluster = Cluster::connect(flags.kubeconfig.as_deref(), &flags.namespace).await?;
        remove::all(&cluster).await?;
        eprintln!("outrigger: nothing is left but the definitions of kinds");
        Ok(ExitCode::SUCCESS)
    })
}

/// Source: RFC 1123's label, which Kubernetes wants here.
fn namespace(text: &str) -> Result<String, String> {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good =
        (1..=63).contains(&text.len()) && text.chars().all(inside) && !text.starts_with('-') && !text.ends_with('-');
    if good { Ok(text.to_owned()) } else { Err("a namespace is up to 63 small letters, digits and `-`".to_owned()) }
}

/// Everything of an installation, in the order in which it is applied.
fn objects(flags: &Chart) -> anyhow::Result<Vec<Value>> {
    let values = values::of(flags.profile, &flags.files, &flags.set)?;
    charts::objects(&values, &flags.namespace)
}
