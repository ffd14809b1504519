//! `outrigger proxy`: who is in sync, what a proxy is told, what it counts.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Output;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The connected proxies, and how far each is with each type of resources.
    #[command(after_help = "Example:\n  outrigger proxy status --monitoring 127.0.0.1:15014")]
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
    /// The pilot's monitoring address.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15014")]
    monitoring: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// The pilot's monitoring address.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15014")]
    monitoring: String,
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
    get(&flags.monitoring, &format!("/debug/config_dump?proxy={}.{}", flags.name, flags.namespace)).await
}

/// The proxy's metrics page is at the workload's own address, which the pilot knows.
async fn stats(flags: &Named) -> anyhow::Result<String> {
    let page: Value = serde_json::from_str(&get(&flags.monitoring, "/debug/syncz").await?)?;
    let name = format!("{}.{}", flags.name, flags.namespace);
    let proxies = page["proxies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let proxy = proxies.iter().find(|proxy| proxy["proxy"] == name.as_str());
    let proxy = proxy.with_context(|| format!("no proxy of {name} is connected to the pilot"))?;
    let address =
        proxy["node"].as_str().and_then(|node| node.split('~').nth(1)).context("a proxy without an address")?;
    get(&format!("{address}:15090"), "/stats/prometheus").await
}

fn status(flags: &Status) -> anyhow::Result<ExitCode> {
    let text = crate::runtime()?.block_on(get(&flags.monitoring, "/debug/syncz"))?;
    let page: Value = serde_json::from_str(&text).context("the pilot's answer")?;
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
    table.set_header(["PROXY", "IDENTITY"].into_iter().chain(TYPES));
    for proxy in page.get("proxies").and_then(Value::as_array).into_iter().flatten() {
        let text = |key: &str| proxy.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
        let status = |kind: &&str| {
            let status = proxy.get("types").and_then(|types| types.get(*kind)).and_then(|kind| kind.get("status"));
            status.and_then(Value::as_str).unwrap_or("NOT SENT").to_owned()
        };
        table.add_row([text("proxy"), text("identity")].into_iter().chain(TYPES.iter().map(status)));
    }
    table
}

/// The body of a page.
async fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let (head, body) = ask(address, path).await?;
    anyhow::ensure!(head.contains(" 200 "), "{address}{path} answers: {head}");
    Ok(body)
}

/// The first line and the body of an answer, by HTTP/1.0.
pub(crate) async fn ask(address: &str, path: &str) -> anyhow::Result<(String, String)> {
    let mut stream =
        tokio::net::TcpStream::connect(address).await.with_context(|| format!("no pilot answers at {address}"))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the pilot's answer is no HTTP")?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}
