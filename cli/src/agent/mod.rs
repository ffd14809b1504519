//! `outrigger agent`: what runs in a pod's sidecar container. It starts the sidecar from what the pod says of itself, asks the
//! application's probes for the kubelet, shows both's metrics on one page, and sees to it that the pod goes without a failed request.

mod metrics;
mod pod;
mod probes;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use daemon::Shutdown;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use pod::Pod;
use probes::Probe;

/// Where probes and metrics are asked for.
const PORT: u16 = 15020;
/// The sidecar's own pages.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);
/// The file that is run beside this one.
const SIDECAR: &str = "sidecar";
/// How long a sidecar may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(8);
/// How long an application may wait for its sidecar.
const WAIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    #[command(subcommand)]
    command: Option<Command_>,
}

#[derive(Debug, clap::Subcommand)]
enum Command_ {
    /// Waits until the sidecar is ready.
    Wait,
    /// Prints what the sidecar starts from.
    Bootstrap,
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    match flags.command {
        Some(Command_::Wait) => crate::runtime()?.block_on(wait()),
        Some(Command_::Bootstrap) => {
            println!("{:#}", Pod::from_env()?.bootstrap()?);
            Ok(ExitCode::SUCCESS)
        }
        None => crate::runtime()?.block_on(serve(Pod::from_env()?)),
    }
}

async fn wait() -> anyhow::Result<ExitCode> {
    let ready = SocketAddr::new(ADMIN.ip(), 15021);
    let end = Instant::now() + WAIT;
    while metrics::get(ready, "/healthz/ready", None).await.is_err() {
        anyhow::ensure!(Instant::now() < end, "the sidecar is not ready after {} s", WAIT.as_secs());
        sleep(LOOK).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the pages answer from.
struct Agent {
    pod: Pod,
    probes: BTreeMap<String, Probe>,
}

async fn serve(pod: Pod) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::on_signals()?;
    let mut sidecar = start(&pod)?;
    let agent = Arc::new(Agent { probes: Probe::read(&pod.probes)?, pod });
    let router = Router::new()
        .route("/stats/prometheus", get(stats))
        .route("/app-health/{container}/{probe}", get(probe))
        .route("/drain", get(drain))
        .with_state(agent.clone());
    let listener = TcpListener::bind((agent.pod.pages(), PORT)).await.context("port 15020")?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    let status = tokio::select! {
        status = sidecar.wait() => status?,
        () = shutdown.asked() => {
            if !agent.pod.native {
                // All containers are asked at once; the application may still call out.
                settle(agent.pod.drain).await;
            }
            stop(&mut sidecar).await?
        }
    };
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn start(pod: &Pod) -> anyhow::Result<Child> {
    let own = std::env::current_exe().context("where this program is")?;
    let mut command = Command::new(own.with_file_name(SIDECAR));
    command.args(["--config-yaml", &pod.bootstrap()?.to_string(), "--concurrency", &pod.workers.to_string()]);
    command.args(pod.log_level.iter().flat_map(|level| ["--log-level", level.as_str()]));
    command.kill_on_drop(true).spawn().context("the sidecar does not start")
}

async fn stop(sidecar: &mut Child) -> anyhow::Result<std::process::ExitStatus> {
    if let Some(pid) = sidecar.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?)) {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    }
    match timeout(GRACE, sidecar.wait()).await {
        Ok(status) => Ok(status?),
        Err(_) => {
            sidecar.start_kill()?;
            Ok(sidecar.wait().await?)
        }
    }
}

/// Until the sidecar serves nothing any longer, but not beyond `limit`.
async fn settle(limit: Duration) {
    let end = Instant::now() + limit;
    // What comes next may just be on its way.
    sleep(limit.min(Duration::from_secs(1))).await;
    while Instant::now() < end && metrics::active_requests(ADMIN).await > 0 {
        sleep(LOOK).await;
    }
}

async fn stats(State(agent): State<Arc<Agent>>) -> ([(&'static str, &'static str); 1], String) {
    let text = metrics::merged(ADMIN, agent.pod.address, agent.pod.metrics.as_ref()).await;
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn probe(
    State(agent): State<Arc<Agent>>,
    Path((container, kind)): Path<(String, String)>,
) -> (StatusCode, String) {
    match agent.probes.get(&format!("{container}/{kind}")) {
        None => (StatusCode::NOT_FOUND, format!("container {container} has no such probe\n")),
        Some(probe) => match probe.ask(agent.pod.address).await {
            Ok(()) => (StatusCode::OK, String::new()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why:#}\n")),
        },
    }
}

/// The pod is on its way out: no new work, but what is under way goes on. A classic sidecar is told only now, and is ended right after.
async fn drain(State(agent): State<Arc<Agent>>) -> StatusCode {
    let told = metrics::post(ADMIN, "/healthcheck/fail").await;
    if !agent.pod.native {
        settle(agent.pod.drain).await;
    }
    if told.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
