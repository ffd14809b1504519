//! `outrigger demo`: the whole mesh on this machine, with no cluster and no root: pilot, CA, sidecars, sample services, load
//! and a live view of a canary split. `--verify` proves what it claims.

pub(crate) mod app;
mod load;
mod manifests;
mod mesh;
mod verify;
mod zipkin;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use api::GoDuration;
use api::mesh_config::ZipkinUrl;

use load::Load;
pub(crate) use load::get;
use mesh::Mesh;
use zipkin::Traces;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  outrigger demo\n  outrigger demo ./shop --duration 1m\n  outrigger demo --verify\n  outrigger demo --verify --proxy /usr/local/bin/envoy"
)]
pub(crate) struct Flags {
    /// A folder for the manifests, written there if they are not; edit them while the demo runs. By default a temporary one.
    dir: Option<PathBuf>,
    /// Prove that the mesh does what it should, one line a proof; exits 1 if anything is not so.
    #[arg(long)]
    verify: bool,
    /// Another xDS proxy in the sidecar's place, such as Envoy.
    #[arg(long, value_name = "PATH")]
    proxy: Option<PathBuf>,
    /// A Zipkin that traces go to (http://HOST:PORT/api/v2/spans). By default a small store in the demo.
    #[arg(long, value_name = "URL")]
    zipkin: Option<api::mesh_config::ZipkinUrl>,
    /// How long to run; by default until stopped.
    #[arg(long)]
    duration: Option<GoDuration>,
    /// Keep the temporary folder with logs and manifests.
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(demo(flags))
}

/// A program of ours, which lies beside this one.
pub(crate) fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe().context("where this program is")?.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is not there: build it with `cargo build --release`", path.display());
    Ok(path)
}

async fn demo(flags: &Flags) -> anyhow::Result<ExitCode> {
    let work = std::env::temp_dir().join(format!("outrigger-demo-{}", std::process::id()));
    std::fs::create_dir_all(&work).with_context(|| format!("folder {}", work.display()))?;
    let folder = flags.dir.clone().unwrap_or_else(|| work.join("mesh"));
    let zipkin = match &flags.zipkin {
        Some(url) => url.clone(),
        None => Traces::default().serve().await?,
    };
    let shutdown = daemon::Shutdown::on_signals().context("cannot listen for signals")?;
    manifests::write(&folder, &zipkin)?;
    let result = tokio::select! {
        result = with_mesh(flags, &work, &folder, &zipkin) => result,
        () = shutdown.asked() => Ok(ExitCode::SUCCESS),
    };
    if flags.keep || result.is_err() {
        eprintln!("logs and state are in {}", work.display());
    } else {
        // Nothing of it is needed any longer; what cannot be removed does no harm.
        let _ = std::fs::remove_dir_all(&work);
    }
    result
}

async fn with_mesh(
    flags: &Flags,
    work: &std::path::Path,
    folder: &std::path::Path,
    zipkin: &ZipkinUrl,
) -> anyhow::Result<ExitCode> {
    let mesh = Mesh::start(work, folder, flags.proxy.as_deref()).await?;
    if flags.verify {
        let good = verify::verify(&mesh, folder, zipkin).await?;
        return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    println!("web → reviews (v1 90 %, v2 10 %) → ratings, a gRPC and a TCP service; every hop by mTLS");
    println!("edit {} and watch the traffic move", folder.join(manifests::SPLIT).display());
    let load = Load::start(20);
    let end = flags.duration.map(|duration| tokio::time::Instant::now() + duration.get());
    let mut tick = tokio::time::interval(Duration::from_secs(2));
    loop {
        tick.tick().await;
        if let Some(line) = load.line(&manifests::weights(folder)) {
            println!("{line}");
        }
        if end.is_some_and(|end| tokio::time::Instant::now() >= end) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}
