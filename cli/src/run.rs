//! `outrigger run`: one process of yours with a sidecar beside it, and a pilot if there is none.

use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use api::Key;
use pilot::ca::Ca;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::bootstrap;
use crate::demo::{beside, get};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  outrigger run web -n shop --manifests ./mesh -- python3 -m http.server 18080\n  outrigger run web -n shop --manifests ./mesh --pilot 127.0.0.1:15010 --token web.token -- ./web"
)]
pub(crate) struct Flags {
    /// The Workload.
    name: String,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// A folder of manifests that holds the Workload.
    #[arg(long, value_name = "DIR", default_value = ".")]
    manifests: PathBuf,
    /// A pilot that runs already, by its xDS address; without it, one is started.
    #[arg(long, value_name = "HOST:PORT", requires = "token")]
    pilot: Option<String>,
    /// A file that holds the workload's join token, for a pilot that runs already.
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// Where the started pilot keeps its CA; a temporary folder by default.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Another xDS proxy in the sidecar's place, such as Envoy.
    #[arg(long, value_name = "PATH")]
    proxy: Option<PathBuf>,
    /// What to run, with its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(beside_it(flags))
}

async fn beside_it(flags: &Flags) -> anyhow::Result<ExitCode> {
    let work = std::env::temp_dir().join(format!("outrigger-run-{}", std::process::id()));
    std::fs::create_dir_all(&work)?;
    let result = with_mesh(flags, &work).await;
    // Logs are kept where something went wrong.
    match &result {
        Ok(_) => drop(std::fs::remove_dir_all(&work)),
        Err(_) => eprintln!("logs are in {}", work.display()),
    }
    result
}

async fn with_mesh(flags: &Flags, work: &Path) -> anyhow::Result<ExitCode> {
    let observed = pilot::source::files::read_once(std::slice::from_ref(&flags.manifests))?;
    let key = Key::new(flags.namespace.clone(), flags.name.clone());
    let Some(workload) = observed.objects.workloads.get(&key) else {
        bail!("{} has no Workload `{}` in namespace `{}`", flags.manifests.display(), flags.name, flags.namespace)
    };
    let address = workload.spec.address.context("the Workload has no address")?;
    let http = workload.spec.outbound_http().context("the Workload has no outbound address")?;
    let account = Key::new(flags.namespace.clone(), workload.spec.service_account());
    // Both end when this function does.
    let mut running = Vec::new();
    let (pilot, token) = match (&flags.pilot, &flags.token) {
        (Some(pilot), Some(file)) => {
            (pilot.clone(), std::fs::read_to_string(file).with_context(|| format!("token file {}", file.display()))?)
        }
        _ => start_pilot(flags, work, &account, &mut running).await?,
    };
    let config = work.join("bootstrap.yaml");
    std::fs::write(&config, bootstrap::document(&flags.name, &flags.namespace, &pilot, Some(token.trim())).await?)?;
    let proxy = flags.proxy.clone().map_or_else(|| beside("sidecar"), Ok)?;
    let mut sidecar = Command::new(&proxy);
    sidecar.arg("-c").arg(&config).args(["--base-id", &(std::process::id() % 1_000_000).to_string()]);
    running.push(spawn(sidecar, work, "sidecar")?);
    let admin = if address.is_loopback() { address } else { IpAddr::from([127, 0, 0, 1]) };
    ready(&format!("{admin}:15000"), "the sidecar", &mut running).await?;
    run_command(flags, &format!("http://{http}")).await
}

async fn start_pilot(
    flags: &Flags,
    work: &Path,
    account: &Key,
    running: &mut Vec<Child>,
) -> anyhow::Result<(String, String)> {
    let state = flags.state.clone().unwrap_or_else(|| work.join("state"));
    let [xds, secure, monitoring] = free_ports()?;
    let mut pilot = Command::new(beside("pilot")?);
    pilot.arg("--manifests").arg(&flags.manifests).arg("--state").arg(&state);
    for (flag, port) in [("--xds", xds), ("--secure-xds", secure), ("--monitoring", monitoring)] {
        pilot.arg(flag).arg(format!("127.0.0.1:{port}"));
    }
    running.push(spawn(pilot, work, "pilot")?);
    ready(&format!("127.0.0.1:{monitoring}"), "the pilot", running).await?;
    let token = Ca::open(&state)?.tokens().create(account, SystemTime::now(), Duration::from_secs(3600));
    Ok((format!("127.0.0.1:{xds}"), token))
}

/// Three ports that nobody has just now.
fn free_ports() -> std::io::Result<[u16; 3]> {
    let bound = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(bound) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}

fn spawn(mut command: Command, work: &Path, name: &str) -> anyhow::Result<Child> {
    let log = std::fs::File::create(work.join(format!("{name}.log")))?;
    let child = command
        .env(daemon::DIE_WITH_PARENT, "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn();
    child.with_context(|| format!("cannot start {name}"))
}

async fn ready(address: &str, what: &str, running: &mut [Child]) -> anyhow::Result<()> {
    for _ in 0..600 {
        if get(address, "/ready", "localhost").await.is_ok_and(|answer| answer.status == 200) {
            return Ok(());
        }
        for child in running.iter_mut() {
            if let Some(status) = child.try_wait()? {
                bail!("a process ended with {status} before {what} was ready");
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{what} is not ready after 30 s")
}

/// Runs the command with its calls going by the sidecar; signals and the exit code are passed on.
async fn run_command(flags: &Flags, proxy: &str) -> anyhow::Result<ExitCode> {
    let [program, arguments @ ..] = flags.command.as_slice() else { bail!("there is nothing to run") };
    let mut command = Command::new(program);
    command.args(arguments).env("http_proxy", proxy).env("HTTP_PROXY", proxy).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start `{program}`"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = terminate.recv() => pass_on(&child, rustix::process::Signal::TERM),
            _ = interrupt.recv() => pass_on(&child, rustix::process::Signal::INT),
        }
    };
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn pass_on(child: &Child, signal: rustix::process::Signal) {
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // One that has just ended needs no signal.
        let _ = rustix::process::kill_process(id, signal);
    }
}
