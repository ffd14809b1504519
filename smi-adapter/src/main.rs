//! `smi-adapter`: SMI objects of one version as those of another, in files and, for an API server, as the conversion webhook of whoever
//! runs it apart from the pilot.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use api::Kind;
use clap::{Parser, Subcommand};
use daemon::Logging;
use daemon::https::{self, Certificate};
use daemon::program::{self, text};
use serde_json::Value;
use smi_adapter::convert::convert;
use smi_adapter::webhook;

/// What SMI's objects are, version by version.
#[derive(Debug, Parser)]
#[command(
    name = "smi-adapter",
    version,
    arg_required_else_help = true,
    after_help = "Examples:\n  smi-adapter convert -f split.yaml\n  smi-adapter convert -f - --to v1alpha2 < split.yaml\n  \
        smi-adapter serve --tls-cert tls.crt --tls-key tls.key"
)]
struct Program {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    logging: Logging,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All objects of a file, to stdout, those of SMI in one version; comments are not kept.
    Convert {
        /// A file of objects, or `-`.
        #[arg(short = 'f', long = "filename", value_name = "FILE")]
        file: PathBuf,
        /// The version; by default each kind's newest.
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
    },
    /// The conversion webhook over HTTPS: `/convert`; `/healthz` for probes.
    Serve {
        /// Where to listen.
        #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:15017")]
        webhook: SocketAddr,
        #[command(flatten)]
        certificate: Certificate,
    },
}

fn main() -> ExitCode {
    let program = Program::parse();
    program::run("smi-adapter", &program.logging, || run(&program.command))
}

fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Convert { file, to } => {
            let name = || format!("file {}", file.display());
            print!("{}", converted(&text(file)?, to.as_deref()).with_context(name)?);
        }
        Command::Serve { webhook, certificate } => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(https::serve(*webhook, webhook::router(), certificate))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn converted(text: &str, to: Option<&str>) -> anyhow::Result<String> {
    // As kubectl reads it.
    let options = serde_saphyr::options! { strict_booleans: false, legacy_octal_numbers: true };
    let objects: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)?;
    let mut documents = Vec::new();
    for object in objects.into_iter().filter(|object| !object.is_null()) {
        documents.push(serde_saphyr::to_string(&one(object, to)?)?);
    }
    Ok(documents.join("---\n"))
}

/// One object, or each of a list's.
fn one(mut object: Value, to: Option<&str>) -> anyhow::Result<Value> {
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
        for item in items {
            *item = one(item.take(), to)?;
        }
        return Ok(object);
    }
    let (Some(kind), Some(api_version)) = (object["kind"].as_str(), object["apiVersion"].as_str()) else {
        bail!("an object without kind or apiVersion");
    };
    let group = api_version.split('/').next().unwrap_or_default();
    let smi = |known: &Kind| known.group() == group && group.ends_with(".smi-spec.io");
    let Some(known) = Kind::named(kind).find(smi) else { return Ok(object) };
    let version = to.unwrap_or(known.versions()[0]);
    if !known.versions().contains(&version) {
        bail!("{kind} has no version {version}, only {}", known.versions().join(", "));
    }
    let wanted = format!("{}/{version}", known.group());
    convert(object, &wanted).map_err(anyhow::Error::msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "apiVersion: split.smi-spec.io/v1alpha1\nkind: TrafficSplit\nmetadata:\n  name: api\n\
        spec:\n  service: api\n  backends:\n  - service: api-v1\n    weight: 500m\n  - service: api-v2\n    weight: 1\n";

    #[test]
    fn documents_by_version() {
        let newest = converted(&format!("{OLD}---\nkind: Service\napiVersion: v1\n"), None).unwrap();
        assert!(newest.contains("split.smi-spec.io/v1alpha4") && newest.contains("kind: Service"), "{newest}");
        let weights =
            |text: &str| text.lines().filter(|line| line.contains("weight")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(weights(&newest), ["    weight: 500", "    weight: 1000"]);
        let list = "{kind: List, apiVersion: v1, items: [{kind: TCPRoute, apiVersion: specs.smi-spec.io/v1alpha1}]}";
        assert!(converted(list, Some("v1alpha4")).unwrap().contains("specs.smi-spec.io/v1alpha4"));
    }

    #[test]
    fn what_cannot_be_converted_is_named() {
        let check = |text: &str, to: &str, said: &str| {
            let error = format!("{:#}", converted(text, Some(to)).unwrap_err());
            assert!(error.contains(said), "{error}");
        };
        check(OLD, "v1alpha9", "TrafficSplit has no version v1alpha9, only v1alpha4");
        check("a: [", "v1alpha4", "line 1");
        check("kind: TrafficSplit", "v1alpha4", "without kind or apiVersion");
    }
}
