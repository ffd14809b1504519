//! The course of a rollout: step, wait, look, and on or back. Not what is good enough, nor how a split is written.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::decide::{Decision, Limits, Seen, decide};
use super::split::Split;
use super::weights::Weights;
use crate::traffic::figures::Figures;
use crate::traffic::source::Source;

/// Between tries to go back, which must come about …
const AGAIN: Duration = Duration::from_secs(2);
/// … unless it does not for some minutes: then somebody must be told.
const TRIES: usize = 150;

/// A canary on its way.
pub(super) struct Rollout {
    pub(super) split: Split,
    pub(super) source: Source,
    pub(super) canary: String,
    /// In percent.
    pub(super) step: u64,
    pub(super) interval: Duration,
    pub(super) limits: Limits,
}

/// The figures of a split's backends, as they are called.
pub(super) async fn figures(source: &Source, split: &Split) -> anyhow::Result<Vec<(String, Figures)>> {
    let key = &split.key;
    let list = source.get(&format!("/namespaces/{}/trafficsplits/{}", key.namespace, key.name)).await?;
    let item = |item: &Value| Some((item["backend"]["name"].as_str()?.to_owned(), Figures::of(item)));
    Ok(list["items"].as_array().into_iter().flatten().filter_map(item).collect())
}

impl Rollout {
    /// Until the canary has everything or nothing.
    pub(super) async fn run(&self) -> anyhow::Result<ExitCode> {
        let shutdown = daemon::Shutdown::on_signals().context("cannot listen for signals")?;
        tokio::select! {
            ended = self.steps() => ended,
            () = shutdown.asked() => {
                println!("stopped: the weights stay as they are, {}", self.split.read().await?);
                Ok(ExitCode::FAILURE)
            }
        }
    }

    async fn steps(&self) -> anyhow::Result<ExitCode> {
        let before = self.split.read().await.with_context(|| self.split.to_string())?;
        self.possible(&before).await?;
        let (mut share, mut weights) = self.begin(&before).await?;
        let (canary, mut blind) = (&self.canary, 0);
        while share < 100 {
            tokio::time::sleep(self.interval).await;
            let seen = self.look(&weights, &mut blind).await?;
            let why = match decide(&seen, &self.limits) {
                Decision::Hold(why) => {
                    println!("{canary} {share} %: waits, {why}");
                    continue;
                }
                Decision::RollBack(why) => return self.back(&before, share, &why).await,
                Decision::Advance(why) => why,
            };
            let next = (share + self.step).min(100);
            let moved = before.moved(canary, next);
            if let Err(error) = self.split.write(&moved).await {
                println!("{canary} {share} %: waits, {error:#}");
                continue;
            }
            println!("{canary} {next} %: well at {share} % ({why})");
            (share, weights) = (next, moved);
        }
        println!("{canary} is promoted: {weights}");
        Ok(ExitCode::SUCCESS)
    }

    /// The first step, or the one that it is at.
    async fn begin(&self, before: &Weights) -> anyhow::Result<(u64, Weights)> {
        let (mut share, mut weights) = (before.share(&self.canary) as u64, before.clone());
        if share == 0 {
            share = self.step;
            weights = before.moved(&self.canary, share);
            self.split.write(&weights).await?;
        }
        if share < 100 {
            println!("{} {share} %: begins, {weights}", self.canary);
        }
        Ok((share, weights))
    }

    /// Whether there is anything to move, and anybody who will say how it goes: asked before anything is moved.
    async fn possible(&self, weights: &Weights) -> anyhow::Result<()> {
        let (split, canary) = (&self.split, &self.canary);
        if !weights.can_move(canary) {
            bail!("{split} must have `{canary}` and another among its backends: it has {weights}");
        }
        let known = figures(&self.source, split).await.with_context(|| format!("no figures of {split}"))?;
        let watched = known.iter().any(|(service, _)| service == canary);
        anyhow::ensure!(watched, "no figures of `{canary}`: the pilot that is asked knows another {split}");
        Ok(())
    }

    /// How the canary does, as long as its weights are the ones that were given.
    async fn look(&self, weights: &Weights, blind: &mut u32) -> anyhow::Result<Seen> {
        let looked = async {
            let now = self.split.read().await?;
            if now != *weights {
                return Ok(Err(now));
            }
            let known = figures(&self.source, &self.split).await?;
            let own = known.into_iter().find(|(service, _)| *service == self.canary);
            anyhow::Ok(Ok(own.context("no figures of it")?.1))
        };
        match looked.await {
            Ok(Err(now)) => {
                bail!("another has changed the weights, which stay as they are: {now} instead of {weights}")
            }
            Ok(Ok(figures)) => {
                *blind = 0;
                Ok(Seen::Figures(figures))
            }
            Err(error) => {
                *blind += 1;
                Ok(Seen::Nothing(format!("{error:#}"), *blind))
            }
        }
    }

    async fn back(&self, before: &Weights, share: u64, why: &str) -> anyhow::Result<ExitCode> {
        let (canary, weights) = (&self.canary, before.moved(&self.canary, 0));
        for left in (0..TRIES).rev() {
            match self.split.write(&weights).await {
                Ok(()) => break,
                Err(error) if left == 0 => {
                    return Err(error.context(format!("{canary} must go back ({why}) and cannot")));
                }
                Err(error) => println!("{canary} {share} %: must go back ({why}) and cannot yet, {error:#}"),
            }
            tokio::time::sleep(AGAIN).await;
        }
        println!("{canary} is rolled back from {share} %: {why}; {weights}");
        Ok(ExitCode::FAILURE)
    }
}
