//! `outrigger proxy`: who is in sync, what a proxy is told, what it counts.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use crate::Output;
use crate::pages::{self, Asked, PROXY_STATS, Pilots};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The connected proxies, and how far each is with each type of resources.
    #[command(
        after_help = "Examples:\n  outrigger proxy status --monitoring 127.0.0.1:15014\n  outrigger proxy status --kubeconfig admin.conf"
    )]
    Status(Status),
    /// What a proxy is told, as the pilot has it.
    #[command(after_help = "Example:\n  outrigger proxy config web -n shop | jq .resources.RDS")]
    Config(Named),
    /// What a proxy counts: its page of metrics.
    #[command(after_help = "Example:\n  outrigger proxy stats web -n shop | grep istio_requests_total")]
    Stats(Named),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// The Workload or pod.
    name: String,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    asked: Asked,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Status(flags) => status(flags),
        Command::Config(flags) => {
            let page: Value = serde_json::from_str(&crate::runtime()?.block_on(config(flags))?)?;
            println!("{}", serde_json::to_string_pretty(&page)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Stats(flags) => {
            print!("{}", crate::runtime()?.block_on(stats(flags))?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn config(flags: &Named) -> anyhow::Result<String> {
    flags.asked.pilots().await?.any(&format!("/debug/config_dump?proxy={}.{}", flags.name, flags.namespace)).await
}

/// In a cluster the page is the pod's; else it is at the workload's own address, which the pilot knows.
async fn stats(flags: &Named) -> anyhow::Result<String> {
    let pilots = flags.asked.pilots().await?;
    if let Pilots::In(cluster, _) = &pilots {
        return pages::of_pod(cluster, &flags.namespace, &flags.name, PROXY_STATS).await;
    }
    let page = synced(&pilots).await?;
    let name = format!("{}.{}", flags.name, flags.namespace);
    let proxies = page["proxies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let proxy = proxies.iter().find(|proxy| proxy["proxy"] == name.as_str());
    let proxy = proxy.with_context(|| format!("no proxy of {name} is connected to the pilot"))?;
    let address =
        proxy["node"].as_str().and_then(|node| node.split('~').nth(1)).context("a proxy without an address")?;
    let (port, path) = PROXY_STATS;
    pages::get(&format!("{address}:{port}"), path).await
}

/// The proxies of all pilots, each with the pilot that it is connected to. All must answer: half a list looks like a whole one.
async fn synced(pilots: &Pilots) -> anyhow::Result<Value> {
    let mut proxies = Vec::new();
    for (pilot, page) in pilots.each("/debug/syncz").await {
        let mut page: Value = serde_json::from_str(&page?).with_context(|| format!("what {pilot} answers"))?;
        for mut proxy in page["proxies"].as_array_mut().map(std::mem::take).unwrap_or_default() {
            proxy["pilot"] = pilot.as_str().into();
            proxies.push(proxy);
        }
    }
    Ok(json!({ "proxies": proxies }))
}

fn status(flags: &Status) -> anyhow::Result<ExitCode> {
    let page = crate::runtime()?.block_on(async { synced(&flags.asked.pilots().await?).await })?;
    match flags.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&page)?),
        Output::Yaml => print!("{}", serde_saphyr::to_string(&page)?),
        Output::Table => println!("{}", table(&page)),
    }
    Ok(ExitCode::SUCCESS)
}

fn table(page: &Value) -> comfy_table::Table {
    const TYPES: [&str; 5] = ["CDS", "EDS", "LDS", "RDS", "SDS"];
    let mut table = comfy_table::Table::new();
    table.set_header(["PROXY", "IDENTITY"].into_iter().chain(TYPES).chain(["PILOT"]));
    for proxy in page.get("proxies").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| proxy.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
        let status = |kind: &&str| {
            let status = proxy.get("types").and_then(|types| types.get(*kind)).and_then(|kind| kind.get("status"));
            status.and_then(Value::as_str).unwrap_or("NOT SENT").to_owned()
        };
        let row = [text("proxy"), text("identity")].into_iter().chain(TYPES.iter().map(status));
        table.add_row(row.chain([text("pilot")]));
    }
    table
}
