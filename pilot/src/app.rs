//! The pilot as a whole: sources, mesh, CA and servers wired together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::GoDuration;
use api::scalar::TrustDomain;
use clap::Parser;
use daemon::{Logging, Shutdown};
use futures_util::TryFutureExt;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Router;
use xds::ca::server::IstioCertificateServiceServer;

use crate::ads::{AdsService, AggregatedDiscoveryServiceServer, Registry, Secrets};
use crate::ca::kubernetes::TokenReviews;
use crate::ca::{self, Authority, CertificateService, Prover};
use crate::debug::{self, Pages};
use crate::kubernetes::{Cluster, InjectorSettings, KnownNamespaces};
use crate::mesh::Domains;
use crate::metrics_api::Metrics;
use crate::push::{self, Latest};
use crate::source::{files, kubernetes};
use crate::tls::{Callers, TlsListener};
use crate::workloads::server::Workloads;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// How long giving back the lease may take.
const LEAVING: Duration = Duration::from_secs(2);

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
    /// A Kubernetes cluster's kubeconfig. Without it and without manifests: the cluster that this pod is in.
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    pub kubeconfig: Option<PathBuf>,
    /// The namespace of everything of ours in a cluster.
    #[arg(long, value_name = "NAMESPACE", default_value = "outrigger-system")]
    pub namespace: String,
    /// Where the CA's key and the join tokens' key are kept; in a cluster they are in a Secret.
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
    /// The webhooks, over HTTPS; only in a cluster. SMI's versions are converted here whatever is left out.
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::new(ANY, 15017))]
    pub webhook: SocketAddr,
    /// The SMI metrics API, over HTTPS; only in a cluster. Everywhere its answers are below /debug/traffic of the monitoring address.
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
    /// How long it goes on serving after it was asked to stop, so that whoever has its address still is answered while others are told.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    pub drain: GoDuration,
    /// What not to run: injector (another program answers the admission webhooks), metrics-api.
    #[arg(long, value_delimiter = ',', value_parser = ["injector", "metrics-api"])]
    pub without: Vec<String>,
    /// Logging.
    #[command(flatten)]
    pub logging: Logging,
}

impl Flags {
    fn runs(&self, part: &str) -> bool {
        !self.without.iter().any(|name| name == part)
    }
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
/// When it cannot start: an address is taken, a folder cannot be read, a cluster does not let it in.
pub async fn run(flags: Flags) -> Result<(), Stopped> {
    if flags.manifests.is_empty() && flags.kubeconfig.is_none() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_none()
    {
        let message = "no source of objects: use --manifests DIR or --kubeconfig FILE";
        return Err(Stopped::Usage(message.to_owned()));
    }
    let shutdown = Shutdown::on_signals()?;
    let stop = shutdown.after(flags.drain.0);
    let mut started = Started::default();
    tokio::select! {
        result = serve(flags, &shutdown, &stop, &mut started) => result?,
        // A cluster that does not answer must not keep it from stopping.
        () = stop.asked() => {}
    }
    if let Some(lease) = started.lease {
        // Whether it was given back in time or not: it ends by itself.
        let _ = tokio::time::timeout(LEAVING, lease).await;
    }
    Ok(())
}

/// What goes on until the pilot is asked to stop.
#[derive(Default)]
struct Started {
    servers: JoinSet<anyhow::Result<()>>,
    /// Ends once the lease is given back.
    lease: Option<JoinHandle<()>>,
}

/// Writes back until it is asked to stop (`shutdown`), and serves until `stop`.
async fn serve(flags: Flags, shutdown: &Shutdown, stop: &Shutdown, started: &mut Started) -> anyhow::Result<()> {
    let servers = &mut started.servers;
    let plain = listen(flags.xds, "--xds").await?;
    let secure = listen(flags.secure_xds, "--secure-xds").await?;
    let monitoring = listen(flags.monitoring, "--monitoring").await?;
    let Mesh { latest, authority, cluster, reviews } = mesh(&flags).await?;
    for problem in &latest.borrow().problems {
        tracing::warn!("{problem}");
    }
    let registry = Arc::new(Registry::default());
    let prover = Prover::new(authority.clone(), reviews);
    let services =
        Services { authority: authority.clone(), prover, latest: latest.clone(), registry: registry.clone() };
    let router = services.router(Server::builder());
    servers.spawn(router.serve_with_incoming_shutdown(TcpListenerStream::new(plain), until(stop)).map_err(Into::into));
    let names = server_names(&flags.namespace, &[flags.secure_xds.ip()]);
    let tls = TlsListener::start(secure, authority.clone(), names, Callers::Proxies)?;
    let router = services.router(Server::builder());
    servers.spawn(router.serve_with_incoming_shutdown(tls.into_stream(), until(stop)).map_err(Into::into));
    let gathers = flags.runs("metrics-api");
    let metrics = gathers.then(|| Metrics { latest: latest.clone(), traffic: crate::traffic::gather(latest.clone()) });
    if let Some((cluster, settings)) = cluster {
        if let Some(metrics) = &metrics {
            metrics_api(&flags, &cluster, metrics, &authority, stop, servers).await?;
        }
        webhooks(&flags, &cluster, &settings, &latest, &authority, stop, servers).await?;
        let written = cluster.write_back(latest.clone(), authority.clone(), settings, identity(&flags), shutdown);
        started.lease = Some(written);
    }
    let pages = axum::serve(monitoring, debug::router(Pages { latest, registry }, metrics));
    servers.spawn(pages.with_graceful_shutdown(until(stop)).into_future().map_err(Into::into));
    tracing::info!(xds = %flags.xds, secure_xds = %flags.secure_xds, monitoring = %flags.monitoring, "serving");
    // Proxies' streams do not end by themselves; they reconnect to the next pilot.
    match servers.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
}

/// What is there before anything is served.
struct Mesh {
    latest: Latest,
    authority: Authority,
    cluster: Option<(Cluster, InjectorSettings)>,
    reviews: Option<TokenReviews>,
}

async fn mesh(flags: &Flags) -> anyhow::Result<Mesh> {
    let domains = |cluster| Domains {
        trust_domain: flags.trust_domain.clone(),
        cluster_domain: flags.cluster_domain.clone(),
        cluster,
    };
    if !flags.manifests.is_empty() {
        let state = flags.state.display().to_string();
        let authority = ca::watch(&flags.state).with_context(|| format!("the CA in --state {state}"))?;
        let paths: Vec<PathBuf> = flags.mesh_config.iter().chain(&flags.manifests).cloned().collect();
        let latest = push::publish(files::watch(&paths)?, domains(false));
        return Ok(Mesh { latest, authority, cluster: None, reviews: None });
    }
    let cluster = Cluster::connect(flags.kubeconfig.as_deref(), &flags.namespace).await?;
    let settings = cluster.settings().await?;
    let others = cluster.external_roots(settings.clone()).await?;
    let authority = ca::kubernetes::watch(&cluster.client, &cluster.namespace, others).await?;
    let source = kubernetes::watch(cluster.client.clone()).await;
    let latest = push::publish(source, domains(true));
    let reviews = Some(TokenReviews::new(cluster.client.clone()));
    Ok(Mesh { latest, authority, cluster: Some((cluster, settings)), reviews })
}

async fn webhooks(
    flags: &Flags,
    cluster: &Cluster,
    settings: &InjectorSettings,
    latest: &Latest,
    authority: &Authority,
    stop: &Shutdown,
    servers: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let listener = listen(flags.webhook, "--webhook").await?;
    let names = server_names(&flags.namespace, &[flags.webhook.ip()]);
    let listener = TlsListener::start(listener, authority.clone(), names, Callers::ApiServer)?;
    // SMI's versions are converted in any case: without it the API server could not read what it stores.
    let mut router = smi_adapter::webhook::router().fallback(daemon::https::no_such_path);
    let injector = flags.runs("injector");
    if injector {
        let namespaces = KnownNamespaces { latest: latest.clone(), cluster: cluster.clone() };
        router = router.merge(injector::webhook::router(settings.clone(), namespaces));
    }
    let server = axum::serve(listener, router).with_graceful_shutdown(until(stop));
    servers.spawn(server.into_future().map_err(Into::into));
    cluster.keep_webhooks(authority, injector).await.context("the CA in the webhooks' configurations")
}

/// SMI's metrics, where the API server says who asks for users. They only observe: without them everything else serves all the same.
async fn metrics_api(
    flags: &Flags,
    cluster: &Cluster,
    metrics: &Metrics,
    authority: &Authority,
    stop: &Shutdown,
    servers: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let found = cluster.front_proxy().await;
    let (front, listener) = match (found, listen(flags.metrics_api, "--metrics-api").await) {
        (Ok(front), Ok(listener)) => (front, listener),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!("no metrics API: {error:#}");
            return Ok(());
        }
    };
    let names = server_names(&flags.namespace, &[flags.metrics_api.ip()]);
    let listener = TlsListener::start(listener, authority.clone(), names, Callers::FrontProxy(front))?;
    let router = crate::metrics_api::router(metrics.clone());
    let server = axum::serve(listener, router).with_graceful_shutdown(until(stop));
    servers.spawn(server.into_future().map_err(Into::into));
    Ok(())
}

/// Who this pilot is to the others: its pod, or its host and an address of its own, so that it is the same when it comes back.
fn identity(flags: &Flags) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    std::env::var("POD_NAME").unwrap_or_else(|_| format!("{host}_{}", flags.monitoring))
}

/// By what names the pilot's own servers are called.
fn server_names(namespace: &str, addresses: &[IpAddr]) -> Vec<String> {
    let service = format!("outrigger-pilot.{namespace}.svc");
    let mut names =
        vec![service, "outrigger-pilot".to_owned(), format!("outrigger-pilot.{namespace}"), "localhost".to_owned()];
    let addresses = addresses.iter().filter(|address| !address.is_unspecified()).chain([&LOOPBACK]);
    names.extend(addresses.map(ToString::to_string));
    names.dedup();
    names
}

fn until(stop: &Shutdown) -> impl Future<Output = ()> + Send + 'static {
    let stop = stop.clone();
    async move { stop.asked().await }
}

async fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address} ({flag})"))
}

/// What both gRPC ports serve.
struct Services {
    authority: Authority,
    prover: Prover,
    latest: Latest,
    registry: Arc<Registry>,
}

impl Services {
    fn router(&self, server: Server) -> Router {
        let secrets = Arc::new(Secrets::new(self.authority.clone()));
        let (authority, prover, latest) = (self.authority.clone(), self.prover.clone(), self.latest.clone());
        let ads = AdsService::new(authority.clone(), prover.clone(), latest.clone(), secrets, self.registry.clone());
        let mut server = server.http2_keepalive_interval(Some(Duration::from_secs(30)));
        server
            .add_service(AggregatedDiscoveryServiceServer::new(ads))
            .add_service(IstioCertificateServiceServer::new(CertificateService::new(
                authority.clone(),
                prover,
                latest.clone(),
            )))
            .add_service(Workloads::new(latest, authority))
    }
}
