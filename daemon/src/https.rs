//! Routes over HTTPS, with a certificate in files that another process renews.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::get;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;

use crate::Shutdown;
use crate::files::Changes;

/// A key and its certificate are replaced one after the other.
const QUIET: Duration = Duration::from_millis(50);
/// How long answers may take after the process was asked to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Where a server's certificate is.
#[derive(Clone, Debug, clap::Args)]
pub struct Certificate {
    /// The server's certificate and those between it and its CA, in PEM; read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub tls_cert: PathBuf,
    /// Its key, in PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_key: PathBuf,
}

/// What a path that is none is answered with. The request is read first: an answer that comes before it has ended is cut off by HTTP/2
/// clients that take the end of their request's stream for an error.
pub async fn no_such_path(_: Bytes) -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "there is no such path\n")
}

/// Serves routes, and `/healthz` for probes, until the process is asked to stop; connections that are open keep the certificate they
/// began with. Within a runtime, and once in a process, as it listens for signals.
///
/// # Errors
/// When the certificate cannot be read at first, or the address is taken.
pub async fn serve(address: SocketAddr, router: Router, certificate: &Certificate) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let Certificate { tls_cert, tls_key } = certificate;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    // Another one that was installed before does as well.
    let _ = provider.install_default();
    let files = || format!("--tls-cert {}, --tls-key {}", tls_cert.display(), tls_key.display());
    let changes = Changes::beside([tls_cert, tls_key], QUIET);
    let config = RustlsConfig::from_pem_file(tls_cert, tls_key).await.with_context(files)?;
    let handle = Handle::new();
    let server = axum_server::bind_rustls(address, config.clone()).handle(handle.clone());
    let router = router.route("/healthz", get(|| async { "ok\n" })).fallback(no_such_path);
    tokio::select! {
        served = server.serve(router.into_make_service()) => served.with_context(|| format!("cannot serve at {address}")),
        never = follow(changes, &config, certificate) => match never {},
        never = stop(&handle, &shutdown) => match never {},
    }
}

async fn follow(mut changes: Changes, config: &RustlsConfig, certificate: &Certificate) -> Infallible {
    loop {
        changes.next().await;
        match config.reload_from_pem_file(&certificate.tls_cert, &certificate.tls_key).await {
            Ok(()) => tracing::info!("the certificate has been read again"),
            Err(error) => tracing::error!(%error, "the certificate stays as it was"),
        }
    }
}

/// The server itself ends once its connections have, or the time for that is over.
async fn stop(handle: &Handle<SocketAddr>, shutdown: &Shutdown) -> Infallible {
    shutdown.asked().await;
    handle.graceful_shutdown(Some(GRACE));
    std::future::pending().await
}
