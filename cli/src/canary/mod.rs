//! `outrigger canary`: a watched rollout, which moves a TrafficSplit by its metrics and goes back by itself. What is asked for, and how
//! it is told; not how it goes.

mod decide;
mod manifest;
mod rollout;
mod split;
mod weights;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use api::GoDuration;
use serde_json::{Value, json};

use crate::Output;
use crate::traffic::figures::Figures;
use crate::traffic::source::Source;
use decide::Limits;
use rollout::{Rollout, figures};
use split::{Named, Split};
use weights::Weights;

/// Proxies are asked so often for what they count.
const SHORTEST: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Gives a backend more and more, as long as it does well; else it gets nothing any more, and this exits 1.
    #[command(
        after_help = "Examples:\n  outrigger canary start reviews -n shop --canary reviews-v2\n  outrigger canary start reviews -n shop --canary reviews-v2 -f ./mesh --step 25 --interval 1m --min-success 99.9"
    )]
    Start(Start),
    /// Each backend's weight, and how it does.
    #[command(after_help = "Example:\n  outrigger canary status reviews -n shop -f ./mesh")]
    Status(Status),
    /// Gives a backend everything, at once.
    #[command(after_help = "Example:\n  outrigger canary promote reviews -n shop --canary reviews-v2 -f ./mesh")]
    Promote(At),
    /// Gives a backend nothing any more, at once. A `start` that is under way ends.
    #[command(after_help = "Example:\n  outrigger canary abort reviews -n shop --canary reviews-v2 -f ./mesh")]
    Abort(At),
}

#[derive(Debug, clap::Args)]
pub(crate) struct At {
    #[command(flatten)]
    named: Named,
    /// The backend.
    #[arg(long, value_name = "BACKEND")]
    canary: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    watched: Watched,
    /// How much more it gets each time, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=99))]
    step: u64,
    /// How long each step lasts at least, 5s or more. Figures are of the last 30 s: a shorter step is judged by what was before it, too.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = interval)]
    interval: Duration,
    /// Below this share of requests that succeed, in percent, it goes back.
    #[arg(long, value_name = "PERCENT", default_value = "99", value_parser = percent)]
    min_success: f64,
    /// Above this latency of 99 of 100 requests it goes back.
    #[arg(long, value_name = "DURATION", default_value = "500ms")]
    max_p99: GoDuration,
    /// With fewer requests nothing is decided.
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    min_requests: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    watched: Watched,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, clap::Args)]
struct Watched {
    /// The monitoring address of the pilot that tells the figures; by default the cluster's metrics API, and with manifests 127.0.0.1:15014.
    #[arg(long, value_name = "HOST:PORT")]
    pilot: Option<String>,
}

impl Watched {
    fn source(&self, split: &Split) -> Source {
        Source::of(self.pilot.as_deref(), split.cluster())
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = text.parse::<GoDuration>().map_err(|error| error.to_string())?.get();
    if interval < SHORTEST { Err(format!("it must be {SHORTEST:?} or more")) } else { Ok(interval) }
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent));
    percent.ok_or_else(|| "it must be a number from 0 to 100".to_owned())
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    crate::runtime()?.block_on(async {
        match command {
            Command::Start(start) => start.rollout().await?.run().await,
            Command::Status(flags) => flags.show().await,
            Command::Promote(at) => at.set(100, "is promoted").await,
            Command::Abort(at) => at.set(0, "is aborted").await,
        }
    })
}

impl Start {
    async fn rollout(&self) -> anyhow::Result<Rollout> {
        let split = self.at.named.open().await?;
        let source = self.watched.source(&split);
        let limits =
            Limits { min_success: self.min_success, max_p99: self.max_p99.get(), min_requests: self.min_requests };
        let (canary, step, interval) = (self.at.canary.clone(), self.step, self.interval);
        Ok(Rollout { split, source, canary, step, interval, limits })
    }
}

impl At {
    async fn set(&self, share: u64, what: &str) -> anyhow::Result<ExitCode> {
        let (split, canary) = (self.named.open().await?, &self.canary);
        let before = split.read().await.with_context(|| split.to_string())?;
        anyhow::ensure!(
            before.can_move(canary),
            "{split} must have `{canary}` and another among its backends: it has {before}"
        );
        let weights = before.moved(canary, share);
        split.write(&weights).await?;
        println!("{canary} {what}: {weights}");
        Ok(ExitCode::SUCCESS)
    }
}

impl Status {
    async fn show(&self) -> anyhow::Result<ExitCode> {
        let split = self.named.open().await?;
        let weights = split.read().await.with_context(|| split.to_string())?;
        let known = figures(&self.watched.source(&split), &split).await?;
        let of = |service: &str| known.iter().find(|(name, _)| name == service).map(|(_, figures)| figures.clone());
        match self.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&told(&weights, of))?),
            Output::Yaml => print!("{}", serde_saphyr::to_string(&told(&weights, of))?),
            Output::Table => println!("{}", table(&weights, of)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn told(weights: &Weights, figures: impl Fn(&str) -> Option<Figures>) -> Value {
    let backend = |backend: &weights::Backend| {
        let figures = figures(&backend.service).map(|figures| figures.json());
        json!({"service": backend.service, "weight": backend.weight, "share": weights.share(&backend.service), "figures": figures})
    };
    weights.0.iter().map(backend).collect()
}

fn table(weights: &Weights, figures: impl Fn(&str) -> Option<Figures>) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.set_header(["BACKEND", "WEIGHT", "SHARE"].into_iter().chain(Figures::HEADS));
    for backend in &weights.0 {
        let share = format!("{:.1} %", weights.share(&backend.service));
        let cells = figures(&backend.service).unwrap_or_default().cells();
        table.add_row([backend.service.clone(), backend.weight.to_string(), share].into_iter().chain(cells));
    }
    table
}
