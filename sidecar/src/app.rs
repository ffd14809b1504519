//! The composition root: from the command line to running threads, and back down.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tracing::info;

use crate::admin::Admin;
use crate::assemble::{Assembly, Start, dial};
use crate::bootstrap::{self, Bootstrap, Compiled};
use crate::observe::server::ServerStats;
use crate::options::{Mode, Options};
use crate::snapshot::Snapshot;
use crate::worker::{Update, WorkerHandle};

/// Runs the proxy until it is told to stop.
///
/// # Errors
/// The configuration can't be used, or an address can't be bound.
pub fn run(options: &Options) -> Result<()> {
    crate::tls::params::install_provider();
    let bootstrap = bootstrap::load(options)?;
    let workers = options.concurrency.unwrap_or_else(cores).max(1);
    let compiled = bootstrap::compile(&bootstrap, options, workers)?;
    if options.mode == Mode::Validate {
        let path = options.config_path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
        println!("configuration '{path}' OK");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(bootstrap, compiled, options, workers))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

async fn serve(bootstrap: Bootstrap, compiled: Compiled, options: &Options, workers: usize) -> Result<()> {
    let node = compiled.node.clone();
    let shutdown = daemon::Shutdown::on_signals().context("cannot listen for signals")?;
    let snapshot = Arc::new(ArcSwap::<Snapshot>::default());
    let handles = start_workers(snapshot.load_full(), workers)?;
    let published = snapshot.clone();
    crate::observe::trace::exporter::start(Arc::new(move |cluster: &str| {
        dial(cluster.to_owned(), published.clone(), b"http/1.1", Duration::ZERO)()
    }));
    let fixed = bootstrap.static_resources.as_ref().map(|fixed| fixed.secrets.clone()).unwrap_or_default();
    tokio::spawn(crate::tls::config::follow(fixed, compiled.secrets.clone()));
    let assembly = Assembly::new(Start {
        workers: handles,
        snapshot,
        store: compiled.secrets,
        fixed_clusters: compiled.clusters,
        fixed_listeners: compiled.listeners,
        dynamic: compiled.dynamic,
        node: compiled.node,
    });
    if let Some(address) = compiled.admin {
        let admin = TcpListener::bind(address).await.with_context(|| format!("cannot bind admin address {address}"))?;
        if let Some(path) = &options.admin_address_path {
            let at = admin.local_addr().context("cannot tell the admin's address")?;
            std::fs::write(path, at.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let pages = Admin {
            phase: assembly.phase(),
            queries: assembly.queries(),
            bootstrap,
            node,
            options: options.clone(),
            workers,
            started: std::time::Instant::now(),
        };
        tokio::spawn(crate::admin::serve(admin, Arc::new(pages)));
    }
    let server = ServerStats::new(workers);
    server.live.set(1);
    info!(workers, "started");
    let handles = assembly.run(shutdown.asked()).await?;
    stop(handles).await;
    Ok(())
}

fn start_workers(snapshot: Arc<Snapshot>, workers: usize) -> Result<Vec<WorkerHandle>> {
    (0..workers).map(|index| WorkerHandle::start(index, snapshot.clone()).context("cannot start a worker")).collect()
}

/// How long requests under way may take to end after the signal.
const GRACE: Duration = Duration::from_secs(5);

async fn stop(handles: Vec<WorkerHandle>) {
    for handle in &handles {
        handle.send(Update::StopListening);
        handle.send(Update::DrainAll { inbound_only: false });
    }
    let deadline = tokio::time::Instant::now() + GRACE;
    for handle in &handles {
        // A worker says when its last connection is gone.
        let _ = tokio::time::timeout_at(deadline, handle.idle()).await;
    }
    handles.into_iter().for_each(WorkerHandle::stop);
    crate::observe::trace::exporter::flush().await;
    crate::observe::access_log::flush();
}
