//! `outrigger dashboard`: the pilot's pages in a browser. In a cluster they are passed on from the API server, to this machine alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::pages::{Asked, Pilots};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  outrigger dashboard --kubeconfig admin.conf\n  outrigger dashboard --monitoring 127.0.0.1:15014"
)]
pub(crate) struct Flags {
    #[command(flatten)]
    asked: Asked,
    /// Where the pages of a cluster are to be had on this machine; by default at any free port.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    crate::runtime()?.block_on(show(flags))?;
    Ok(ExitCode::SUCCESS)
}

async fn show(flags: &Flags) -> anyhow::Result<()> {
    let pilots = flags.asked.pilots().await?;
    // Whoever opens an address must find something there.
    pilots.any("/ready").await?;
    if let Pilots::At(address) = &pilots {
        println!("http://{address}/");
        return Ok(());
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, flags.port));
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address} (--port)"))?;
    println!("http://{}/    (Ctrl-C ends it)", listener.local_addr()?);
    let router = Router::new().fallback(get(page)).with_state(Arc::new(pilots));
    axum::serve(listener, router)
        .with_graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    Ok(())
}

/// Pages that scripts read are JSON; the others are the first one, and texts.
async fn page(State(pilots): State<Arc<Pilots>>, uri: Uri) -> Response {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let kind = match path {
        "/" => "text/html; charset=utf-8",
        path if path.starts_with("/debug/") => "application/json",
        _ => "text/plain; charset=utf-8",
    };
    match pilots.any(path).await {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}\n")).into_response(),
    }
}
