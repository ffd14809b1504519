//! The gRPC service: a task for each stream.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::CertificateDer;
use tonic::{Request, Response, Status, Streaming, async_trait};
use xds::type_url;

use super::delta::Delta;
use super::sotw::{Said, Sotw};
use super::stream::{LINGER, RENEWAL_CHECK, Stream, again};
use super::{ORDER, Registry, Secrets, follows};
use crate::ca::{Authority, Proof, Prover, Refused};
use crate::push::Latest;

/// Responses that wait for a slow proxy.
const QUEUE: usize = 16;

/// Aggregated discovery for every proxy.
#[derive(Debug)]
pub struct AdsService {
    authority: Authority,
    prover: Prover,
    latest: Latest,
    secrets: Arc<Secrets>,
    registry: Arc<Registry>,
}

impl AdsService {
    /// Serves what is published, with secrets for those who have proven who they are.
    #[must_use]
    pub fn new(
        authority: Authority,
        prover: Prover,
        latest: Latest,
        secrets: Arc<Secrets>,
        registry: Arc<Registry>,
    ) -> Self {
        Self { authority, prover, latest, secrets, registry }
    }

    async fn open(&self, call: Call, protocol: &'static str) -> Result<Stream, Status> {
        let settings = self.latest.borrow().mesh.settings.clone();
        let shown = call.certificates.as_ref().map(|certificates| certificates.as_slice());
        let proof = match self.prover.proof(&call.metadata, shown, settings.trust_domain.as_str()).await {
            Ok(proof) => proof,
            Err(error @ Refused::Expired) => {
                // A proxy that comes back after a pilot's restart must not lose its configuration for that.
                tracing::info!(peer = ?call.peer, %error, "stream without secrets");
                Proof::None
            }
            Err(error) => {
                tracing::warn!(peer = ?call.peer, %error, "stream refused");
                return Err(error.into());
            }
        };
        Ok(Stream::new(
            self.latest.clone(),
            self.authority.clone(),
            self.secrets.clone(),
            self.registry.clone(),
            proof,
            protocol,
        ))
    }
}

/// Who calls, apart from what is said.
struct Call {
    metadata: MetadataMap,
    certificates: Option<Arc<Vec<CertificateDer<'static>>>>,
    peer: Option<SocketAddr>,
}

impl Call {
    fn of<T>(request: &Request<T>) -> Self {
        Self { metadata: request.metadata().clone(), certificates: request.peer_certs(), peer: request.remote_addr() }
    }
}

#[async_trait]
impl AggregatedDiscoveryService for AdsService {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let stream = self.open(Call::of(&request), "sotw").await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(sotw(stream, request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let stream = self.open(Call::of(&request), "delta").await?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(delta(stream, request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// What woke a stream up.
enum Event<T> {
    Request(Box<T>),
    Changed,
    /// It is time to look what lingers and which certificates are old.
    Time,
    End,
}

/// Waits for whatever comes first.
async fn next<T>(stream: &mut Stream, requests: &mut Streaming<T>, deadline: Instant) -> Event<T> {
    tokio::select! {
        request = requests.message() => match request {
            Ok(Some(request)) => Event::Request(Box::new(request)),
            Ok(None) | Err(_) => Event::End,
        },
        changed = stream.latest.changed() => if changed.is_ok() { Event::Changed } else { Event::End },
        changed = stream.authority.changed() => if changed.is_ok() { Event::Changed } else { Event::End },
        () = sleep_until(deadline) => Event::Time,
    }
}

fn deadline(stream: &Stream) -> Instant {
    Instant::now() + if stream.lingers() { LINGER } else { RENEWAL_CHECK }
}

async fn sotw(
    mut stream: Stream,
    mut requests: Streaming<DiscoveryRequest>,
    sender: mpsc::Sender<Result<DiscoveryResponse, Status>>,
) {
    let mut state = Sotw::default();
    let mut due = deadline(&stream);
    loop {
        let event = next(&mut stream, &mut requests, due).await;
        let types = match event {
            Event::Request(request) => {
                if let Err(refused) = stream.node(request.node.as_ref()) {
                    return drop(sender.send(Err(refused)).await);
                }
                let said = state.request(&request);
                stream.note(&request.type_url, &request.response_nonce, &said);
                if said == Said::Stale {
                    continue;
                }
                vec![request.type_url.clone()]
            }
            Event::Changed => ORDER.map(str::to_owned).to_vec(),
            Event::Time => {
                stream.settle();
                ORDER.map(str::to_owned).to_vec()
            }
            Event::End => return,
        };
        let asked = types.len() == 1;
        let Some(view) = stream.view() else { continue };
        let mut forced = BTreeSet::new();
        for kind in types.into_iter().filter(|kind| state.has(kind)).collect::<Vec<_>>() {
            let force = forced.contains(kind.as_str());
            let Some(response) = state.respond(&kind, &view, force) else { continue };
            forced.extend(follows(&kind).filter(|_| !asked));
            stream.sent(&kind, &response.nonce);
            if sender.send(Ok(response)).await.is_err() {
                return;
            }
        }
        due = deadline(&stream);
    }
}

async fn delta(
    mut stream: Stream,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    sender: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) {
    let mut state = Delta::default();
    let mut due = deadline(&stream);
    loop {
        let event = next(&mut stream, &mut requests, due).await;
        let types = match event {
            Event::Request(request) => {
                if let Err(refused) = stream.node(request.node.as_ref()) {
                    return drop(sender.send(Err(refused)).await);
                }
                let said = state.request(&request);
                stream.note(&request.type_url, &request.response_nonce, &said);
                vec![request.type_url.clone()]
            }
            Event::Changed => ORDER.map(str::to_owned).to_vec(),
            Event::Time => {
                stream.settle();
                ORDER.map(str::to_owned).to_vec()
            }
            Event::End => return,
        };
        let asked = types.len() == 1;
        let Some(view) = stream.view() else { continue };
        let mut repeat: Option<(&str, BTreeSet<String>)> = None;
        for kind in types.into_iter().filter(|kind| state.has(kind)).collect::<Vec<_>>() {
            let names = repeat.take().filter(|(of, _)| *of == kind).map(|(_, names)| names).unwrap_or_default();
            // Endpoints are named as their clusters; route tables are not named as their listeners.
            let Some(response) = state.respond(&kind, &view, &names) else { continue };
            if kind == type_url::CLUSTER && !asked {
                repeat = again(&kind, response.resources.iter().map(|resource| resource.name.as_str()));
            }
            stream.sent(&kind, &response.nonce);
            if sender.send(Ok(response)).await.is_err() {
                return;
            }
        }
        due = deadline(&stream);
    }
}
