//! `outrigger capture`: redirects a workload's connections to its sidecar, in the network namespace where it is run.

mod rules;

use std::io::Write;
use std::process::{Command as Process, ExitCode, Stdio};

use anyhow::{Context, bail};
use injector::ports::PortRange;
use ipnet::IpNet;

use rules::{Family, Wanted};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Puts the rules in place, at once and as a whole; done twice, it is as done once.
    #[command(
        after_help = "Example:\n  outrigger capture apply --exclude-outbound-ports 3306,8000-8010 --exclude-inbound-ports 22"
    )]
    Apply(Rules),
    /// Takes out all that is ours, and nothing else.
    Remove,
    /// Prints the rules and changes nothing.
    Show(Rules),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rules {
    /// Only connections to these ports (and ranges of addresses) are captured. A port, a range as 8000-8010, or * for all.
    #[arg(long, value_delimiter = ',', value_name = "PORTS")]
    include_outbound_ports: Vec<PortRange>,
    /// Connections to these ports are not.
    #[arg(long, value_delimiter = ',', value_name = "PORTS")]
    exclude_outbound_ports: Vec<PortRange>,
    /// Only connections to these ranges (and ports) are captured.
    #[arg(long, value_delimiter = ',', value_name = "CIDRS")]
    include_outbound_cidrs: Vec<IpNet>,
    /// Connections to these ranges are not.
    #[arg(long, value_delimiter = ',', value_name = "CIDRS")]
    exclude_outbound_cidrs: Vec<IpNet>,
    /// Only connections that come in at these ports are captured.
    #[arg(long, value_delimiter = ',', value_name = "PORTS")]
    include_inbound_ports: Vec<PortRange>,
    /// Connections that come in at these ports are not.
    #[arg(long, value_delimiter = ',', value_name = "PORTS")]
    exclude_inbound_ports: Vec<PortRange>,
    /// DNS is captured too.
    #[arg(long)]
    dns: bool,
}

impl From<&Rules> for Wanted {
    fn from(rules: &Rules) -> Self {
        Self {
            include_outbound_ports: rules.include_outbound_ports.clone(),
            exclude_outbound_ports: rules.exclude_outbound_ports.clone(),
            include_outbound_cidrs: rules.include_outbound_cidrs.clone(),
            exclude_outbound_cidrs: rules.exclude_outbound_cidrs.clone(),
            include_inbound_ports: rules.include_inbound_ports.clone(),
            exclude_inbound_ports: rules.exclude_inbound_ports.clone(),
            dns: rules.dns,
        }
    }
}

const FAMILIES: [(Family, &str, &str); 2] = [(Family::V4, "iptables", "IPv4"), (Family::V6, "ip6tables", "IPv6")];

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    for (family, program, name) in FAMILIES {
        match command {
            Command::Show(wanted) => print!("# {name}\n{}", rules::apply(&wanted.into(), family, &[])),
            Command::Apply(_) | Command::Remove if family == Family::V6 && !has_v6() => {
                eprintln!("outrigger: this host has no IPv6: nothing to capture there");
            }
            Command::Apply(wanted) => {
                restore(program, |old| rules::apply(&wanted.into(), family, old))?;
                loopback(family, "replace")?;
            }
            Command::Remove => {
                restore(program, rules::remove)?;
                // It may not be there.
                drop(loopback(family, "del"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The address by which the sidecar's own connections to its process are told. All of 127.0.0.0/8 is this host's; of IPv6's addresses
/// only those that are given to it are. Source: Istio's `tools/istio-iptables`, `configureIPv6Addresses`.
fn loopback(family: Family, action: &str) -> anyhow::Result<()> {
    if family == Family::V4 {
        return Ok(());
    }
    let done = Process::new("ip").args(["-6", "address", action, rules::PASSED_ON_V6, "dev", "lo"]).output();
    let done = done.context("ip cannot be run: install iproute2")?;
    if !done.status.success() {
        bail!("ip says: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

fn has_v6() -> bool {
    // Every address of this host, a line each; none where IPv6 is switched off.
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.trim().is_empty())
}

/// Replaces what is there in one step.
fn restore(program: &str, text: impl FnOnce(&[String]) -> String) -> anyhow::Result<()> {
    let saved = Process::new(format!("{program}-save")).args(["-t", "nat"]).output();
    let saved = saved.with_context(|| format!("{program}-save cannot be run: install iptables"))?;
    if !saved.status.success() {
        bail!("{program}-save says: {}. Are you root, with NET_ADMIN?", String::from_utf8_lossy(&saved.stderr).trim());
    }
    let old = rules::ours(&String::from_utf8_lossy(&saved.stdout));
    let mut restore = Process::new(format!("{program}-restore"))
        .arg("--noflush")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program}-restore cannot be run: install iptables"))?;
    let mut input = restore.stdin.take().context("no input to iptables-restore")?;
    input.write_all(text(&old).as_bytes())?;
    drop(input);
    let done = restore.wait_with_output()?;
    if !done.status.success() {
        bail!("{program}-restore says: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
