//! The commands of `outrigger`, one file a command.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agent;
mod analyze;
mod bootstrap;
mod bug_report;
mod canary;
mod capture;
mod cert;
mod check;
mod connect;
mod dashboard;
mod demo;
mod explain;
mod inject;
mod install;
mod issue;
mod objects;
mod pages;
mod proxy;
mod run;
mod token;
mod traffic;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use daemon::Logging;

/// A service mesh: Envoy's API, SMI's YAML, one small toolchain.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Examples:\n  outrigger analyze -f ./mesh\n  outrigger token create -n shop --service-account web --state ./state\n  outrigger bootstrap web -n shop --pilot 127.0.0.1:15010 --token web.token"
)]
struct Program {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    logging: Logging,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What is wrong in these objects, with file, line and column.
    Analyze(analyze::Flags),
    /// The Envoy bootstrap of a workload outside Kubernetes.
    Bootstrap(bootstrap::Flags),
    /// Join tokens, by which a process outside Kubernetes proves who it is.
    #[command(subcommand)]
    Token(token::Command),
    /// The certificate authority.
    #[command(subcommand)]
    Cert(cert::Command),
    /// Who is in sync with the pilot.
    #[command(subcommand)]
    Proxy(proxy::Command),
    /// Live figures: requests, success and latency, and who calls whom.
    #[command(subcommand)]
    Traffic(traffic::Command),
    /// A watched rollout: moves a TrafficSplit by its metrics, and goes back by itself.
    #[command(subcommand)]
    Canary(canary::Command),
    /// Would this call be allowed, and why.
    #[command(subcommand)]
    Authz(explain::Authz),
    /// What is known of a Service: where calls go, who may call.
    Describe(explain::Describe),
    /// The rules that redirect a workload's connections to its sidecar.
    #[command(subcommand)]
    Capture(capture::Command),
    /// The pilot's pages in a browser.
    Dashboard(dashboard::Flags),
    /// What whoever looks into a problem will ask for, in a folder.
    BugReport(bug_report::Flags),
    /// Completions for a shell, to stdout.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Puts the mesh into a cluster.
    Install(install::Install),
    /// Changes an installation to these values.
    Upgrade(install::Install),
    /// Takes the mesh out of a cluster; the definitions of kinds stay.
    Uninstall(install::Uninstall),
    /// Is everything as it should be; each failed line says what to do.
    Check(check::Flags),
    /// Prints what `install` applies.
    Render(install::Chart),
    /// Files of workloads, with sidecars.
    Inject(inject::Flags),
    /// Files of workloads, without sidecars again.
    Uninject(inject::Uninject),
    /// One process of yours with a sidecar beside it.
    Run(run::Flags),
    /// The whole mesh on this machine: no cluster, no root.
    Demo(demo::Flags),
    /// What runs in a pod's sidecar container.
    #[command(hide = true)]
    Agent(agent::Flags),
    /// One of the demo's sample services.
    #[command(hide = true)]
    DemoApp(demo::app::Flags),
    /// The version.
    Version {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// How a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For programs, and for reading.
    Yaml,
}

/// Reads the command line and does what it says: 0 when all is well, 1 when not, 2 for wrong usage.
#[must_use]
pub fn run() -> ExitCode {
    let program = Program::parse();
    let command = program.command;
    daemon::program::run("outrigger", &program.logging, || match command {
        Command::Analyze(flags) => analyze::run(&flags),
        Command::Bootstrap(flags) => bootstrap::run(&flags),
        Command::Token(command) => token::run(&command),
        Command::Proxy(command) => proxy::run(&command),
        Command::Traffic(command) => traffic::run(&command),
        Command::Canary(command) => canary::run(&command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Program::command(), "outrigger", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Dashboard(flags) => dashboard::run(&flags),
        Command::BugReport(flags) => bug_report::run(&flags),
        Command::Cert(command) => cert::run(&command),
        Command::Authz(command) => explain::check(&command),
        Command::Describe(flags) => explain::describe(&flags),
        Command::Run(flags) => run::run(&flags),
        Command::Capture(command) => capture::run(&command),
        Command::Demo(flags) => demo::run(&flags),
        Command::Agent(flags) => agent::run(&flags),
        Command::DemoApp(flags) => demo::app::run(&flags),
        Command::Install(flags) | Command::Upgrade(flags) => install::install(&flags),
        Command::Uninstall(flags) => install::uninstall(&flags),
        Command::Check(flags) => check::run(&flags),
        Command::Render(flags) => install::render(&flags),
        Command::Inject(flags) => inject::inject(&flags),
        Command::Uninject(flags) => inject::uninject(&flags),
        Command::Version { output } => version(output),
    })
}

fn version(output: Output) -> anyhow::Result<ExitCode> {
    let version = serde_json::json!({"client": {"version": env!("CARGO_PKG_VERSION")}});
    match output {
        Output::Table => println!("outrigger {}", env!("CARGO_PKG_VERSION")),
        Output::Json => println!("{}", serde_json::to_string_pretty(&version)?),
        Output::Yaml => print!("{}", serde_saphyr::to_string(&version)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// A runtime for commands that talk to others.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
