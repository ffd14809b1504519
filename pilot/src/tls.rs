//! TLS of the pilot's own servers: a certificate of the mesh's CA, made anew when the CA changes and long before it ends.
//! Connections that are open keep the one they began with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::ca::{Authority, Ca};
use crate::kubernetes::FrontProxy;

/// How often a new certificate is made; it lives much longer.
const RENEWAL: Duration = Duration::from_secs(24 * 3600);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that wait to be served.
const QUEUE: usize = 64;

/// What a server offers by ALPN, and whether callers may show a certificate of the mesh.
#[derive(Clone, Debug)]
pub enum Callers {
    /// Proxies: gRPC, with a certificate if they have one.
    Proxies,
    /// The API server: HTTPS.
    ApiServer,
    /// The API server for users: HTTPS, with its front proxy's certificate and no other.
    FrontProxy(FrontProxy),
}

/// Accepted connections, after their handshakes.
#[derive(Debug)]
pub struct TlsListener {
    accepted: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
}

impl TlsListener {
    /// Accepts at a listener with certificates for these names.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn start(
        listener: TcpListener,
        authority: Authority,
        names: Vec<String>,
        callers: Callers,
    ) -> anyhow::Result<Self> {
        let local = listener.local_addr()?;
        let first = config(&authority.borrow().clone(), &names, &callers)?;
        let (sender, configs) = watch::channel(Arc::new(first));
        tokio::spawn(renew(sender, authority, names, callers.clone()));
        let (connections, accepted) = mpsc::channel(QUEUE);
        tokio::spawn(accept(listener, configs, callers, connections));
        Ok(Self { accepted, local })
    }

    /// The connections as a stream.
    pub fn into_stream(self) -> impl futures_util::Stream<Item = std::io::Result<TlsStream<TcpStream>>> {
        let stream = tokio_stream::wrappers::ReceiverStream::new(self.accepted);
        futures_util::StreamExt::map(stream, |(stream, _)| Ok(stream))
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The accepting task ends only with the process.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.local)
    }
}

async fn renew(
    sender: watch::Sender<Arc<ServerConfig>>,
    mut authority: Authority,
    names: Vec<String>,
    callers: Callers,
) {
    while !sender.is_closed() {
        // Changed, or old: both mean a new one. The CA itself ends with the process.
        if let Ok(Err(_)) = timeout(RENEWAL, authority.changed()).await {
            return;
        }
        match config(&authority.borrow_and_update().clone(), &names, &callers) {
            Ok(config) => drop(sender.send_replace(Arc::new(config))),
            Err(error) => tracing::error!(%error, "the pilot's own certificate stays as it was"),
        }
    }
}

async fn accept(
    listener: TcpListener,
    configs: watch::Receiver<Arc<ServerConfig>>,
    callers: Callers,
    connections: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    while !connections.is_closed() {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let acceptor = TlsAcceptor::from(configs.borrow().clone());
        let (connections, callers) = (connections.clone(), callers.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) if !admits(&callers, &stream) => {
                    tracing::warn!(%peer, "no front proxy of the API server's")
                }
                Ok(Ok(stream)) => drop(connections.send((stream, peer)).await),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "no handshake"),
                Err(_) => tracing::debug!(%peer, "no handshake in time"),
            }
        });
    }
}

fn config(ca: &Ca, names: &[String], callers: &Callers) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match callers {
        Callers::ApiServer => builder.with_no_client_auth(),
        Callers::Proxies => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca.trusted())?, provider);
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
        }
        Callers::FrontProxy(front) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots(&front.roots)?, provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (key, leaf) = ca.make_server(names)?;
    let chain = leaf.chain.concat();
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let mut config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?;
    config.alpn_protocols = match callers {
        Callers::Proxies => vec![b"h2".to_vec()],
        Callers::ApiServer | Callers::FrontProxy(_) => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(config)
}

/// Roots in PEM, each of which must be one.
///
/// # Errors
/// When one is none.
pub(crate) fn roots(pems: &str) -> anyhow::Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pems.as_bytes()) {
        roots.add(root.context("a root certificate")?)?;
    }
    Ok(Arc::new(roots))
}

/// Whether who shook hands may ask: a front proxy may have one of some names only.
fn admits(callers: &Callers, stream: &TlsStream<TcpStream>) -> bool {
    let Callers::FrontProxy(front) = callers else { return true };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let Some((_, shown)) = shown.and_then(|shown| x509_parser::parse_x509_certificate(shown).ok()) else {
        return false;
    };
    let mut names = shown.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    front.names.is_empty() || names.any(|name| front.names.iter().any(|allowed| allowed == name))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn authority(name: &str) -> Ca {
        let folder = std::env::temp_dir().join(format!("outrigger-tls-{name}-{}", std::process::id()));
        let ca = Ca::open(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        ca
    }

    /// A server that shakes hands and does nothing else.
    async fn accepting(authority: Authority, callers: Callers) -> SocketAddr {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let mut listener = TlsListener::start(socket, authority, vec!["localhost".to_owned()], callers).unwrap();
        tokio::spawn(async move {
            loop {
                drop(axum::serve::Listener::accept(&mut listener).await);
            }
        });
        at
    }

    fn client(
        roots: Arc<RootCertStore>,
    ) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots)
    }

    /// Callers may show a certificate of any root that the mesh trusts, and of no other; the server's own is of its own CA.
    #[tokio::test]
    async fn callers_are_verified_by_all_roots() {
        let (own, other, foreign) = (authority("own"), authority("other"), authority("foreign"));
        let roots = roots(own.roots()).unwrap();
        let account = api::Key::new("shop", "web");
        let certificates = [&own, &other, &foreign].map(|ca| ca.make("cluster.local", &account).unwrap());
        let own = Arc::new(own.trusting(other.roots()));
        let (_kept, authority) = watch::channel(own);
        let at = accepting(authority, Callers::Proxies).await;
        for ((key, leaf), welcome) in certificates.iter().zip([true, true, false]) {
            let chain =
                CertificateDer::pem_slice_iter(leaf.chain.concat().as_bytes()).collect::<Result<_, _>>().unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            let client = client(roots.clone()).with_client_auth_cert(chain, key).unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
            let stream = TcpStream::connect(at).await.unwrap();
            let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
            // In TLS 1.3 a client learns only by reading what the server thinks of its certificate.
            let said = stream.read(&mut [0]).await.map_err(|error| error.to_string());
            assert_eq!(!said.as_ref().is_err_and(|why| why.contains("alert")), welcome, "{said:?}");
        }
    }

    /// However often the certificate is made anew, nobody is turned away meanwhile.
    #[tokio::test]
    async fn rotations_refuse_nobody() {
        const ROTATIONS: usize = 100;
        let ca = Arc::new(authority("rotated"));
        let (rotate, authority) = watch::channel(ca.clone());
        let at = accepting(authority, Callers::ApiServer).await;
        let client = client(roots(ca.roots()).unwrap()).with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..ROTATIONS {
            rotate.send_replace(ca.clone());
            let stream = TcpStream::connect(at).await.unwrap();
            let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
            seen.extend(stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|leaf| leaf.to_vec()));
        }
        assert!(seen.len() > ROTATIONS / 4, "only {} certificates were seen", seen.len());
    }
}
