//! Runs one protocol state machine over a gRPC stream: connects, reconnects with jittered back-off,
//! keeps the last configuration meanwhile.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::{MetadataKey, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;
use tracing::{debug, info, warn};
use xds::type_url;

use super::delta::Delta;
use super::sotw::Sotw;
use super::{Event, Events, Interest};
use crate::io::Io;

pub type SendFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Makes a connection to the management server.
pub type Dial = Arc<dyn Fn() -> SendFuture<std::io::Result<Box<dyn Io>>> + Send + Sync>;

/// The headers each stream starts with; asked anew every time, since credentials change.
pub type Credentials = Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>;

/// Which protocol a subscription speaks. Source: `ApiConfigSource.api_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Sotw,
    Delta,
}

/// What a stream needs to know.
#[derive(Clone)]
pub struct Options {
    pub variant: Variant,
    /// One stream for all types, or a service of its own for this type.
    pub aggregated: bool,
    pub node: Node,
    pub node_on_first_only: bool,
    pub dial: Dial,
    pub credentials: Credentials,
    /// `:authority`.
    pub authority: String,
    /// Shown in logs.
    pub cluster: String,
    pub back_off: BackOff,
}

/// How long to wait before a lost stream is opened again: at random up to `first`, then twice that, and so on up to `longest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackOff {
    pub first: Duration,
    pub longest: Duration,
}

/// Source: Envoy `GrpcService.EnvoyGrpc.retry_policy`, what holds without one.
impl Default for BackOff {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), longest: Duration::from_secs(30) }
    }
}

/// The owner's end of a running stream.
#[derive(Clone)]
pub struct Subscriber {
    wants: mpsc::UnboundedSender<(String, Interest)>,
}

impl Subscriber {
    /// Sets what is wanted of a type.
    pub fn want(&self, type_url: &str, interest: Interest) {
        let _ = self.wants.send((type_url.to_owned(), interest));
    }
}

/// Starts a stream on this runtime. It ends when the last [`Subscriber`] is dropped.
pub fn start(options: Options, events: Events) -> Subscriber {
    let (wants, inbox) = mpsc::unbounded_channel();
    tokio::spawn(run(options, events, inbox));
    Subscriber { wants }
}

/// A stream that lived this long starts the back-off anew.
const SETTLED: Duration = Duration::from_secs(60);
/// A management server that is not heard of for this long is gone (HTTP/2 PING).
const KEEPALIVE: Duration = Duration::from_secs(15);
const LARGEST_MESSAGE: usize = 256 << 20;

async fn run(options: Options, events: Events, mut inbox: mpsc::UnboundedReceiver<(String, Interest)>) {
    let mut machine = Machine::new(&options);
    // Nothing to ask for yet: no stream.
    match inbox.recv().await {
        Some((type_url, interest)) => machine.want(&type_url, interest),
        None => return,
    }
    let BackOff { first, longest } = options.back_off;
    let mut delay = first;
    loop {
        let begun = tokio::time::Instant::now();
        match session(&options, &events, &mut machine, &mut inbox).await {
            Ended::Dropped => return,
            Ended::Lost(why) => warn!(cluster = options.cluster, "xDS stream ended: {why}"),
        }
        events.send(Event::Connected(false));
        if begun.elapsed() > SETTLED {
            delay = first;
        }
        // Full jitter, so that a thousand proxies don't come back at once.
        let wait = delay.mul_f64(fastrand::f64());
        delay = (delay * 2).min(longest);
        tokio::time::sleep(wait).await;
    }
}

enum Ended {
    Dropped,
    Lost(String),
}

/// Either protocol, as seen by the loop below.
enum Machine {
    Sotw(Sotw),
    Delta(Delta),
}

impl Machine {
    fn new(options: &Options) -> Self {
        let (node, first_only) = (options.node.clone(), options.node_on_first_only);
        match options.variant {
            Variant::Sotw => Machine::Sotw(Sotw::new(node, first_only)),
            Variant::Delta => Machine::Delta(Delta::new(node, first_only)),
        }
    }

    /// Notes what is wanted first; the stream asks for it once it is open.
    fn want(&mut self, type_url: &str, interest: Interest) {
        match self {
            Machine::Sotw(m) => drop(m.want(type_url, interest)),
            Machine::Delta(m) => drop(m.want(type_url, interest)),
        }
    }
}

pub(super) async fn channel(options: &Options) -> Result<Channel, String> {
    let authority = format!("http://{}", options.authority);
    let endpoint = Endpoint::from_shared(authority)
        .map_err(|e| e.to_string())?
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_connection_window_size(Some(8 << 20))
        .initial_stream_window_size(Some(4 << 20));
    let dial = options.dial.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let connecting = dial();
        async move { connecting.await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.map_err(|e| sources(&e))
}

/// An error with everything that caused it.
fn sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

pub(super) fn with_credentials<T>(options: &Options, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    for (key, value) in (options.credentials)() {
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), MetadataValue::try_from(value)) {
            request.metadata_mut().append(key, value);
        }
    }
    request
}

/// The gRPC method for one type's own stream. Source: the services under `envoy/service/*/v3`.
fn method(type_url: &str, variant: Variant) -> Option<&'static str> {
    Some(match (type_url, variant) {
        (type_url::LISTENER, Variant::Sotw) => "/envoy.service.listener.v3.ListenerDiscoveryService/StreamListeners",
        (type_url::LISTENER, Variant::Delta) => "/envoy.service.listener.v3.ListenerDiscoveryService/DeltaListeners",
        (type_url::CLUSTER, Variant::Sotw) => "/envoy.service.cluster.v3.ClusterDiscoveryService/StreamClusters",
        (type_url::CLUSTER, Variant::Delta) => "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters",
        (type_url::ROUTE_CONFIGURATION, Variant::Sotw) => "/envoy.service.route.v3.RouteDiscoveryService/StreamRoutes",
        (type_url::ROUTE_CONFIGURATION, Variant::Delta) => "/envoy.service.route.v3.RouteDiscoveryService/DeltaRoutes",
        (type_url::CLUSTER_LOAD_ASSIGNMENT, Variant::Sotw) => {
            "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints"
        }
        (type_url::CLUSTER_LOAD_ASSIGNMENT, Variant::Delta) => {
            "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints"
        }
        (type_url::SECRET, Variant::Sotw) => "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
        (type_url::SECRET, Variant::Delta) => "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
        (type_url::RUNTIME, Variant::Sotw) => "/envoy.service.runtime.v3.RuntimeDiscoveryService/StreamRuntime",
        (type_url::RUNTIME, Variant::Delta) => "/envoy.service.runtime.v3.RuntimeDiscoveryService/DeltaRuntime",
        (type_url::SCOPED_ROUTE_CONFIGURATION, Variant::Sotw) => {
            "/envoy.service.route.v3.ScopedRoutesDiscoveryService/StreamScopedRoutes"
        }
        (type_url::SCOPED_ROUTE_CONFIGURATION, Variant::Delta) => {
            "/envoy.service.route.v3.ScopedRoutesDiscoveryService/DeltaScopedRoutes"
        }
        (type_url::VIRTUAL_HOST, Variant::Delta) => {
            "/envoy.service.route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts"
        }
        (type_url::TYPED_EXTENSION_CONFIG, Variant::Sotw) => {
            "/envoy.service.extension.v3.ExtensionConfigDiscoveryService/StreamExtensionConfigs"
        }
        (type_url::TYPED_EXTENSION_CONFIG, Variant::Delta) => {
            "/envoy.service.extension.v3.ExtensionConfigDiscoveryService/DeltaExtensionConfigs"
        }
        _ => return None,
    })
}

async fn session(
    options: &Options,
    events: &Events,
    machine: &mut Machine,
    inbox: &mut mpsc::UnboundedReceiver<(String, Interest)>,
) -> Ended {
    let channel = match channel(options).await {
        Ok(channel) => channel,
        Err(why) => return Ended::Lost(why),
    };
    match machine {
        Machine::Sotw(sotw) => run_sotw(options, events, sotw, inbox, channel).await,
        Machine::Delta(delta) => run_delta(options, events, delta, inbox, channel).await,
    }
}

macro_rules! run {
    ($name:ident, $machine:ty, $request:ty, $response:ty, $aggregated:ident, $answer:expr) => {
        async fn $name(
            options: &Options,
            events: &Events,
            machine: &mut $machine,
            inbox: &mut mpsc::UnboundedReceiver<(String, Interest)>,
            channel: Channel,
        ) -> Ended {
            let (requests, outbox) = mpsc::channel::<$request>(64);
            let first = machine.restart();
            let type_url = first.first().map(|r| r.type_url.clone()).unwrap_or_default();
            for request in first {
                if requests.send(request).await.is_err() {
                    return Ended::Lost("closed".to_owned());
                }
            }
            let request = with_credentials(options, ReceiverStream::new(outbox));
            let opened = if options.aggregated {
                let mut client =
                    AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
                client.$aggregated(request).await
            } else {
                let Some(path) = method(&type_url, options.variant) else {
                    return Ended::Lost(format!("no stream for {type_url}"));
                };
                let mut client = Grpc::new(channel).max_decoding_message_size(LARGEST_MESSAGE);
                if let Err(error) = client.ready().await {
                    return Ended::Lost(sources(&error));
                }
                let codec: ProstCodec<$request, $response> = ProstCodec::default();
                client.streaming(request, PathAndQuery::from_static(path), codec).await
            };
            let mut responses = match opened {
                Ok(response) => response.into_inner(),
                Err(status) => return Ended::Lost(format!("{:?}: {}", status.code(), status.message())),
            };
            info!(cluster = options.cluster, "xDS stream open");
            events.send(Event::Connected(true));
            loop {
                let next = tokio::select! {
                    wanted = inbox.recv() => match wanted {
                        None => return Ended::Dropped,
                        Some((type_url, interest)) => machine.want(&type_url, interest),
                    },
                    response = responses.message() => match response {
                        Ok(Some(response)) => {
                            let (type_url, version) = $answer(&response);
                            debug!(type_url, version, "xDS response");
                            let verdict = match machine.received(response) {
                                Ok(change) => events.judge(change).await,
                                Err(why) => {
                                    events.send(Event::Failed { type_url: type_url.clone(), why: why.clone() });
                                    Err(why)
                                }
                            };
                            if let Err(why) = &verdict {
                                warn!(type_url, version, "xDS response refused: {why}");
                            }
                            answer(machine, &type_url, &version, &verdict)
                        }
                        Ok(None) => return Ended::Lost("closed by the server".to_owned()),
                        Err(status) => return Ended::Lost(format!("{:?}: {}", status.code(), status.message())),
                    },
                };
                if let Some(request) = next {
                    if requests.send(request).await.is_err() {
                        return Ended::Lost("closed".to_owned());
                    }
                }
            }

            fn answer(
                machine: &mut $machine,
                type_url: &str,
                version: &str,
                verdict: &super::Verdict,
            ) -> Option<$request> {
                Answer::answer(machine, type_url, version, verdict)
            }
        }
    };
}

/// The one thing in which the two machines' answers differ.
trait Answer<R> {
    fn answer(&mut self, type_url: &str, version: &str, verdict: &super::Verdict) -> Option<R>;
}

impl Answer<discovery::DiscoveryRequest> for Sotw {
    fn answer(
        &mut self,
        type_url: &str,
        version: &str,
        verdict: &super::Verdict,
    ) -> Option<discovery::DiscoveryRequest> {
        Sotw::answer(self, type_url, version, verdict)
    }
}

impl Answer<discovery::DeltaDiscoveryRequest> for Delta {
    fn answer(
        &mut self,
        type_url: &str,
        _: &str,
        verdict: &super::Verdict,
    ) -> Option<discovery::DeltaDiscoveryRequest> {
        Delta::answer(self, type_url, verdict)
    }
}

run!(
    run_sotw,
    Sotw,
    discovery::DiscoveryRequest,
    discovery::DiscoveryResponse,
    stream_aggregated_resources,
    |r: &discovery::DiscoveryResponse| (r.type_url.clone(), r.version_info.clone())
);
run!(
    run_delta,
    Delta,
    discovery::DeltaDiscoveryRequest,
    discovery::DeltaDiscoveryResponse,
    delta_aggregated_resources,
    |r: &discovery::DeltaDiscoveryResponse| (r.type_url.clone(), r.system_version_info.clone())
);
