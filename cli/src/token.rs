//! `outrigger token`: join tokens.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use api::{GoDuration, Key};
use pilot::ca::Ca;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Prints a token with which a process may prove who it is. The pilot need not run.
    #[command(
        after_help = "Example:\n  outrigger token create -n shop --service-account web --state ./state --ttl 1h > web.token"
    )]
    Create(Create),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The service account's namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Who the process is.
    #[arg(long)]
    service_account: String,
    /// The pilot's state folder.
    #[arg(long, value_name = "DIR", default_value = "outrigger-state")]
    state: PathBuf,
    /// How long the token is good: 1s to 24h.
    #[arg(long, default_value = "1h", value_parser = ttl)]
    ttl: GoDuration,
}

fn ttl(text: &str) -> Result<GoDuration, String> {
    let ttl: GoDuration = text.parse().map_err(|error: api::duration::DurationError| error.to_string())?;
    let range = GoDuration::from_secs(1)..=GoDuration::from_secs(24 * 3600);
    if range.contains(&ttl) { Ok(ttl) } else { Err("must be 1s to 24h".to_owned()) }
}

pub(crate) fn run(Command::Create(flags): &Command) -> anyhow::Result<ExitCode> {
    let id = xds::SpiffeId::new("cluster.local", &flags.namespace, &flags.service_account).to_string();
    id.parse::<xds::SpiffeId>().map_err(|_| {
        anyhow::anyhow!("`{}` in namespace `{}` can be no service account", flags.service_account, flags.namespace)
    })?;
    let ca = Ca::open(&flags.state)?;
    let account = Key::new(flags.namespace.clone(), flags.service_account.clone());
    println!("{}", ca.tokens().create(&account, SystemTime::now(), flags.ttl.get()));
    Ok(ExitCode::SUCCESS)
}
