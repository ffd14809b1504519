//! The demo's processes: pilot, sample services and their sidecars. All end with the demo.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::beside;
use super::load::get;
use super::manifests::{SAMPLES, Sample};

/// The pilot's address, away from a mesh that may run already.
const PILOT: &str = "127.0.10.2";
const START: Duration = Duration::from_secs(30);

/// The running mesh.
pub(super) struct Mesh {
    pub(super) state: PathBuf,
    children: Vec<Child>,
}

impl Drop for Mesh {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended already cannot be ended again.
            let _ = child.start_kill();
        }
    }
}

impl Mesh {
    pub(super) async fn start(work: &Path, folder: &Path, proxy: Option<&Path>) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("where this program is")?;
        let proxy = match proxy {
            Some(proxy) => proxy.to_owned(),
            None => beside("sidecar")?,
        };
        for sample in &SAMPLES {
            free(&format!("{}:15001", sample.address()))?;
            free(&format!("{}:15000", sample.address()))?;
        }
        let mut mesh = Self { state: work.join("state"), children: Vec::new() };
        let mut pilot = Command::new(beside("pilot")?);
        pilot.arg("--manifests").arg(folder).arg("--state").arg(&mesh.state);
        for (flag, port) in [("--xds", 15010), ("--secure-xds", 15012), ("--monitoring", 15014)] {
            pilot.arg(flag).arg(format!("{PILOT}:{port}"));
        }
        mesh.spawn(pilot, work, "pilot")?;
        mesh.ready(&format!("{PILOT}:15014"), "pilot", work).await?;
        for (n, sample) in SAMPLES.iter().enumerate() {
            mesh.app(&own, sample, work)?;
            mesh.sidecar(&own, &proxy, sample, n, work).await?;
        }
        for sample in &SAMPLES {
            mesh.ready(&format!("{}:15000", sample.address()), &format!("sidecar-{}", sample.name), work).await?;
        }
        Ok(mesh)
    }

    fn app(&mut self, own: &Path, sample: &Sample, work: &Path) -> anyhow::Result<()> {
        let mut app = Command::new(own);
        app.args(["demo-app", sample.name, "--listen", &sample.app()]);
        let next = match sample.account {
            "web" => Some("reviews.shop:9080"),
            "reviews" => Some("ratings.shop:9080"),
            _ => None,
        };
        if let Some(next) = next {
            app.args(["--next", next, "--via", &format!("{}:15001", sample.address())]);
        }
        if sample.port.0 == "tcp" {
            app.arg("--tcp");
        }
        self.spawn(app, work, &format!("app-{}", sample.name))
    }

    async fn sidecar(
        &mut self,
        own: &Path,
        proxy: &Path,
        sample: &Sample,
        n: usize,
        work: &Path,
    ) -> anyhow::Result<()> {
        let token = output(
            Command::new(own)
                .args(["token", "create", "-n", "shop", "--service-account", sample.account, "--state"])
                .arg(&self.state),
        )
        .await?;
        let token_file = work.join(format!("{}.token", sample.name));
        std::fs::write(&token_file, token)?;
        let pilot = format!("{PILOT}:15010");
        let bootstrap = output(
            Command::new(own)
                .args(["bootstrap", sample.name, "-n", "shop", "--pilot", &pilot, "--token"])
                .arg(&token_file),
        )
        .await?;
        let file = work.join(format!("{}.yaml", sample.name));
        std::fs::write(&file, bootstrap)?;
        let mut sidecar = Command::new(proxy);
        let base = (std::process::id() % 100_000) * 16 + u32::try_from(n).unwrap_or_default();
        sidecar.arg("-c").arg(&file).args(["--concurrency", "1", "--base-id", &base.to_string()]);
        self.spawn(sidecar, work, &format!("sidecar-{}", sample.name))
    }

    fn spawn(&mut self, mut command: Command, work: &Path, name: &str) -> anyhow::Result<()> {
        let log = std::fs::File::create(work.join(format!("{name}.log")))?;
        let child = command
            .env(daemon::DIE_WITH_PARENT, "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        self.children.push(child.with_context(|| format!("cannot start {name}"))?);
        Ok(())
    }

    async fn ready(&mut self, address: &str, name: &str, work: &Path) -> anyhow::Result<()> {
        let end = Instant::now() + START;
        while Instant::now() < end {
            if get(address, "/ready", "localhost").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    let log = std::fs::read_to_string(work.join(format!("{name}.log"))).unwrap_or_default();
                    let last: Vec<&str> = log.lines().rev().take(5).collect();
                    bail!(
                        "a process ended with {status} while {name} started:\n{}",
                        last.into_iter().rev().collect::<Vec<_>>().join("\n")
                    );
                }
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        bail!(
            "{name} is not ready after {} s; its log is {}",
            START.as_secs(),
            work.join(format!("{name}.log")).display()
        )
    }
}

/// Nobody may listen yet where the mesh will.
fn free(address: &str) -> anyhow::Result<()> {
    std::net::TcpListener::bind(address)
        .map(drop)
        .with_context(|| format!("{address} is taken: does a demo run already?"))
}

async fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command.output().await?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(output.stdout)
}

/// A connection to an address, for raw bytes.
pub(super) async fn connect(address: &str) -> std::io::Result<TcpStream> {
    tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(address)).await?
}
