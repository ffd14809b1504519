//! `outrigger traffic`: live figures of workloads and services, and of who calls whom. What is asked for, and how often it is shown.

pub(crate) mod figures;
mod rows;
pub(crate) mod source;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use serde_json::Value;

use crate::Output;
use rows::Rows;
use source::{Asked, Source};

/// What runs, and what is called. A Deployment's ReplicaSets and pods would tell of the same requests again.
const SHOWN: [&str; 6] = ["deployments", "statefulsets", "daemonsets", "jobs", "workloads", "services"];
const PAUSE: Duration = Duration::from_secs(2);
/// How many answers are awaited at once.
const AT_ONCE: usize = 8;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Requests, success and latency of each workload and service, the busiest first.
    #[command(
        after_help = "Examples:\n  outrigger traffic top -n shop\n  outrigger traffic top pods --once\n  outrigger traffic top -o json --pilot 127.0.0.1:15014"
    )]
    Top(Top),
    /// Who calls whom, and how it goes.
    #[command(
        after_help = "Examples:\n  outrigger traffic edges -n shop\n  outrigger traffic edges -o yaml --pilot 127.0.0.1:15014"
    )]
    Edges(Shown),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Top {
    #[command(flatten)]
    shown: Shown,
    /// Kinds in the plural, such as `pods`; by default what runs, and services.
    kinds: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Shown {
    /// The namespace; by default all.
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    asked: Asked,
    /// Print once, even on a terminal.
    #[arg(long)]
    once: bool,
    /// How to print; for programs once.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    crate::runtime()?.block_on(show(command))
}

async fn show(command: &Command) -> anyhow::Result<ExitCode> {
    let shown = match command {
        Command::Top(top) => &top.shown,
        Command::Edges(shown) => shown,
    };
    let source = shown.asked.source().await?;
    let known = source.kinds().await?;
    let rows = async || match command {
        Command::Top(top) => shown.top(&source, &known, &top.kinds).await,
        Command::Edges(shown) => shown.edges(&source, &known).await,
    };
    match shown.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&rows().await?.json())?),
        Output::Yaml => print!("{}", serde_saphyr::to_string(&rows().await?.json())?),
        Output::Table if shown.once || !std::io::stdout().is_terminal() => println!("{}", rows().await?.table()),
        Output::Table => loop {
            // A pilot that is away for a moment does not end the view.
            let table = rows().await.map_or_else(|error| format!("{error:#}"), |rows| rows.table().to_string());
            // Home, and all below it is cleared: the table takes its own place.
            println!("\x1b[H\x1b[J{table}");
            std::io::stdout().flush()?;
            tokio::time::sleep(PAUSE).await;
        },
    }
    Ok(ExitCode::SUCCESS)
}

impl Shown {
    /// The list of a kind.
    async fn list(&self, source: &Source, kind: &str) -> anyhow::Result<Value> {
        match &self.namespace {
            Some(namespace) => source.get(&format!("/namespaces/{namespace}/{kind}")).await,
            None => source.get(&format!("/{kind}")).await,
        }
    }

    async fn top(&self, source: &Source, known: &[String], kinds: &[String]) -> anyhow::Result<Rows> {
        let mut lists = Vec::new();
        for kind in wanted(known, kinds)? {
            lists.push(self.list(source, kind).await?);
        }
        Ok(rows::top(&lists))
    }

    /// Services have none of their own: who answers for them is what runs.
    async fn edges(&self, source: &Source, known: &[String]) -> anyhow::Result<Rows> {
        let mut paths = Vec::new();
        for kind in wanted(known, &[])?.into_iter().filter(|kind| *kind != "services") {
            let resources = rows::resources(&self.list(source, kind).await?);
            paths.extend(resources.iter().map(|r| format!("/namespaces/{}/{kind}/{}/edges", r.namespace, r.name)));
        }
        let asked = paths.iter().map(|path| source.get(path));
        let lists: Vec<Value> = futures_util::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        Ok(rows::edges(&lists))
    }
}

/// The kinds to show; those that are named must be known, the others need not be.
fn wanted<'a>(known: &'a [String], named: &[String]) -> anyhow::Result<Vec<&'a str>> {
    let find = |kind: &str| known.iter().map(String::as_str).find(|known| *known == kind);
    if named.is_empty() {
        return Ok(SHOWN.into_iter().filter_map(find).collect());
    }
    let kind =
        |kind: &String| find(kind).ok_or_else(|| anyhow::anyhow!("no figures of `{kind}`: there are {}", plain(known)));
    named.iter().map(kind).collect()
}

fn plain(known: &[String]) -> String {
    let names: Vec<&str> = known.iter().map(String::as_str).filter(|name| !name.contains('/')).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let known = ["pods", "pods/edges", "services", "deployments"].map(str::to_owned);
        assert_eq!(wanted(&known, &[]).unwrap(), ["deployments", "services"]);
        assert_eq!(wanted(&known, &["pods".to_owned()]).unwrap(), ["pods"]);
        let error = wanted(&known, &["cats".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "no figures of `cats`: there are pods, services, deployments");
    }
}
