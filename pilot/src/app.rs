//! The pilot as a whole: sources, mesh, CA and servers wired together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use api::scalar::TrustDomain;
use clap::Parser;
use daemon::{Logging, Shutdown};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Router;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use xds::ca::server::IstioCertificateServiceServer;

use crate::ads::{AdsService, AggregatedDiscoveryServiceServer, Registry, Secrets};
use crate::ca::{self, Authority, CertificateService};
use crate::debug::{self, Pages};
use crate::mesh::Domains;
use crate::push::{self, Latest};
use crate::source::files;
use crate::workloads::server::Workloads;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The control plane of Outrigger: objects in, xDS and certificates out.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "pilot",
    version,
    after_help = "Examples:\n  pilot --manifests ./mesh --state ./state\n  pilot --manifests ./mesh --manifests ./team --xds 127.0.0.1:15010"
)]
pub struct Flags {
    /// A folder of manifests, or one manifest; may be given more than once.
    #[arg(long, value_name = "DIR")]
    pub manifests: Vec<PathBuf>,
    /// A Kubernetes cluster's kubeconfig.
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    pub kubeconfig: Option<PathBuf>,
    /// Where the CA's key and the join tokens' key are kept.
    #[arg(long, value_name = "DIR", default_value = "outrigger-state")]
    pub state: PathBuf,
    /// xDS and CA in plain gRPC.
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::new(LOOPBACK, 15010))]
    pub xds: SocketAddr,
    /// xDS and CA over TLS.
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::new(ANY, 15012))]
    pub secure_xds: SocketAddr,
    /// Metrics, health and debug pages.
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::new(ANY, 15014))]
    pub monitoring: SocketAddr,
    /// The webhook's address (not served in this build).
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::new(ANY, 15017))]
    pub webhook: SocketAddr,
    /// The SMI metrics API's address (not served in this build).
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::new(ANY, 15019))]
    pub metrics_api: SocketAddr,
    /// The trust domain, when MeshConfig names none.
    #[arg(long, default_value = "cluster.local")]
    pub trust_domain: TrustDomain,
    /// The end of every Service's full name.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// A manifest that holds the MeshConfig.
    #[arg(long, value_name = "FILE")]
    pub mesh_config: Option<PathBuf>,
    /// What not to run: injector, metrics-api.
    #[arg(long, value_delimiter = ',', value_parser = ["injector", "metrics-api"])]
    pub without: Vec<String>,
    /// Logging.
    #[command(flatten)]
    pub logging: Logging,
}

/// Why the pilot did not start: the exit code, and what to say.
#[derive(Debug)]
pub enum Stopped {
    /// It was asked for what it cannot do; exit code 2.
    Usage(String),
    /// It failed; exit code 1.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs until asked to stop.
///
/// # Errors
/// When it cannot start: an address is taken, a folder cannot be read.
pub async fn run(flags: Flags) -> Result<(), Stopped> {
    if flags.kubeconfig.is_some() {
        return Err(Stopped::Usage("--kubeconfig is not in this build yet: use --manifests DIR".to_owned()));
    }
    if flags.manifests.is_empty() {
        return Err(Stopped::Usage("no source of objects: use --manifests DIR".to_owned()));
    }
    let shutdown = Shutdown::on_signals()?;
    let state = flags.state.display().to_string();
    let authority = ca::watch(&flags.state).with_context(|| format!("the CA in --state {state}"))?;
    let paths: Vec<PathBuf> = flags.mesh_config.iter().chain(&flags.manifests).cloned().collect();
    let domains = Domains {
        trust_domain: flags.trust_domain.clone(),
        cluster_domain: flags.cluster_domain.clone(),
        cluster: false,
    };
    let latest = push::publish(files::watch(&paths)?, domains);
    for problem in &latest.borrow().problems {
        tracing::warn!("{problem}");
    }
    let registry = Arc::new(Registry::default());
    let services = Services { authority, latest: latest.clone(), registry: registry.clone() };
    let plain = listen(flags.xds, "--xds").await?;
    let secure = listen(flags.secure_xds, "--secure-xds").await?;
    let monitoring = listen(flags.monitoring, "--monitoring").await?;
    tracing::info!(xds = %flags.xds, secure_xds = %flags.secure_xds, monitoring = %flags.monitoring, "serving");
    let pages = debug::router(Pages { latest, registry });
    let tls = services.tls()?;
    let plain = services
        .router(Server::builder())?
        .serve_with_incoming_shutdown(TcpListenerStream::new(plain), until(&shutdown));
    let secure = services
        .router(Server::builder().tls_config(tls)?)?
        .serve_with_incoming_shutdown(TcpListenerStream::new(secure), until(&shutdown));
    let pages = axum::serve(monitoring, pages).with_graceful_shutdown(until(&shutdown));
    // Proxies' streams do not end by themselves; they reconnect to the next pilot.
    tokio::select! {
        result = async { tokio::try_join!(async { plain.await.map_err(anyhow::Error::from) }, async { secure.await.map_err(anyhow::Error::from) }, async { pages.await.map_err(anyhow::Error::from) }) } => drop(result?),
        () = until(&shutdown) => {}
    }
    Ok(())
}

fn until(shutdown: &Shutdown) -> impl Future<Output = ()> + Send + 'static {
    let shutdown = shutdown.clone();
    async move { shutdown.asked().await }
}

async fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address} ({flag})"))
}

/// What both gRPC ports serve.
struct Services {
    authority: Authority,
    latest: Latest,
    registry: Arc<Registry>,
}

impl Services {
    fn router(&self, server: Server) -> anyhow::Result<Router> {
        let secrets = Arc::new(Secrets::new(self.authority.clone()));
        let ads = AdsService::new(self.authority.clone(), self.latest.clone(), secrets, self.registry.clone());
        let mut server = server.http2_keepalive_interval(Some(std::time::Duration::from_secs(30)));
        Ok(server
            .add_service(AggregatedDiscoveryServiceServer::new(ads))
            .add_service(IstioCertificateServiceServer::new(CertificateService::new(
                self.authority.clone(),
                self.latest.clone(),
            )))
            .add_service(Workloads::new(self.latest.clone(), self.authority.clone())))
    }

    /// Callers may show a certificate of the mesh, and need not.
    fn tls(&self) -> anyhow::Result<ServerTlsConfig> {
        let ca = self.authority.borrow().clone();
        let names =
            ["localhost", "127.0.0.1", "outrigger-pilot.outrigger-system.svc", "outrigger-pilot"].map(str::to_owned);
        let (key, leaf) = ca.make_server(&names)?;
        Ok(ServerTlsConfig::new()
            .identity(Identity::from_pem(leaf.chain.concat(), key))
            .client_ca_root(Certificate::from_pem(ca.roots()))
            .client_auth_optional(true))
    }
}
