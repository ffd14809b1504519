//! What arrives as protobuf → what is assembled: where resources come from, and each kind of resource,
//! checked by the schema's rules and compiled by its own module.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as ClusterConfig;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener as ListenerConfig;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret as SecretConfig;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use prost::{Message, Name};
use xds::Schema;

use crate::cluster::{Cluster, Host};
use crate::config::{ConfigError, Within, duration, unpack};
use crate::discovery::Fetched;
use crate::discovery::stream::{BackOff, Variant};
use crate::listener::Listener;
use crate::route::RouteTable;
use crate::tls::{Secret, SecretStore};

/// Where resources come from. Source: `core.v3.ConfigSource`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The bootstrap's one stream.
    Ads,
    /// A file that is read again when it is replaced.
    Path { path: PathBuf, watched_directory: Option<PathBuf> },
    /// A stream of its own.
    Stream(Server),
}

/// A management server. Source: `core.v3.ApiConfigSource`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    pub cluster: String,
    /// `:authority`; the cluster's name where none is given.
    pub authority: String,
    pub metadata: Vec<(String, String)>,
    pub delta: bool,
    pub node_on_first_only: bool,
    pub back_off: BackOff,
}

impl Server {
    /// What is known of a server by its cluster alone.
    pub fn named(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            authority: cluster.to_owned(),
            metadata: Vec::new(),
            delta: false,
            node_on_first_only: false,
            back_off: BackOff::default(),
        }
    }

    pub fn variant(&self) -> Variant {
        if self.delta { Variant::Delta } else { Variant::Sotw }
    }
}

/// Envoy's default of `initial_fetch_timeout`.
const INITIAL_FETCH: Duration = Duration::from_secs(15);

/// A source, and how long its first answer is waited for (`None`: for ever).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub source: Source,
    pub initial_fetch_timeout: Option<Duration>,
}

/// Reads an encoded `ConfigSource`.
///
/// # Errors
/// A kind of source that is not supported.
pub fn encoded_source(bytes: &[u8]) -> Result<Subscription, ConfigError> {
    let config = core::ConfigSource::decode(bytes).map_err(|e| ConfigError::new(e.to_string()))?;
    subscription(&config)
}

/// Compiles a source.
///
/// # Errors
/// A kind of source that is not supported.
pub fn subscription(config: &core::ConfigSource) -> Result<Subscription, ConfigError> {
    use core::config_source::ConfigSourceSpecifier as Kind;
    #[allow(deprecated)] // `path` is what older bootstraps have.
    let source = match &config.config_source_specifier {
        Some(Kind::Ads(_) | Kind::Self_(_)) => Source::Ads,
        Some(Kind::Path(path)) => Source::Path { path: path.into(), watched_directory: None },
        Some(Kind::PathConfigSource(source)) => Source::Path {
            path: (&source.path).into(),
            watched_directory: source.watched_directory.as_ref().map(|d| (&d.path).into()),
        },
        Some(Kind::ApiConfigSource(api)) => server(api).within("api_config_source")?.into(),
        None => return Err(ConfigError::new("one of ads, path_config_source, api_config_source is required")),
    };
    let wait = match &config.initial_fetch_timeout {
        None => Some(INITIAL_FETCH),
        Some(limit) => duration(Some(limit)).filter(|d| !d.is_zero()),
    };
    Ok(Subscription { source, initial_fetch_timeout: wait })
}

impl From<Server> for Source {
    fn from(server: Server) -> Self {
        Source::Stream(server)
    }
}

/// Compiles a management server.
///
/// # Errors
/// REST, Google's gRPC library, or no gRPC service at all.
pub fn server(config: &core::ApiConfigSource) -> Result<Server, ConfigError> {
    use core::api_config_source::ApiType;
    use core::grpc_service::TargetSpecifier;
    let delta = match config.api_type() {
        ApiType::Grpc | ApiType::AggregatedGrpc => false,
        ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc => true,
        other => return Err(ConfigError::at("api_type", format!("{} is not supported", other.as_str_name()))),
    };
    let [service] = config.grpc_services.as_slice() else {
        return Err(ConfigError::at("grpc_services", "a singleton gRPC service is required"));
    };
    let Some(TargetSpecifier::EnvoyGrpc(grpc)) = &service.target_specifier else {
        return Err(ConfigError::at("grpc_services[0]", "only envoy_grpc is supported"));
    };
    Ok(Server {
        cluster: grpc.cluster_name.clone(),
        authority: if grpc.authority.is_empty() { grpc.cluster_name.clone() } else { grpc.authority.clone() },
        metadata: service.initial_metadata.iter().map(|m| (m.key.clone(), m.value.clone())).collect(),
        delta,
        node_on_first_only: config.set_node_on_first_message_only,
        back_off: back_off(grpc).within("grpc_services[0].envoy_grpc.retry_policy.retry_back_off")?,
    })
}

/// Source: Envoy `BackoffStrategy`: without a maximum, ten times the base.
fn back_off(grpc: &core::grpc_service::EnvoyGrpc) -> Result<BackOff, ConfigError> {
    let wanted = grpc.retry_policy.as_ref().and_then(|policy| policy.retry_back_off.as_ref());
    let Some(wanted) = wanted else { return Ok(BackOff::default()) };
    let first = duration(wanted.base_interval.as_ref()).unwrap_or(BackOff::default().first);
    let longest = duration(wanted.max_interval.as_ref()).unwrap_or(first * 10);
    if longest < first {
        return Err(ConfigError::at("max_interval", "must be greater than or equal to the base_interval"));
    }
    Ok(BackOff { first, longest })
}

/// Reads a resource file.
///
/// # Errors
/// It can't be read, or is no DiscoveryResponse.
pub fn response_file(path: &Path) -> Result<DiscoveryResponse, String> {
    crate::bootstrap::read_file::<DiscoveryResponse>(path, xds::json::UnknownFields::Refuse)
        .map_err(|e| format!("{e:#}"))
}

fn typed<T: Message + Name + Default>(fetched: &Fetched) -> Result<T, ConfigError> {
    let message: T = unpack(&fetched.resource)?;
    let schema = Schema::shared();
    let descriptor = xds::json::descriptor::<T>(&schema).map_err(|e| ConfigError::new(e.to_string()))?;
    let dynamic = prost_reflect::DynamicMessage::decode(descriptor, fetched.resource.value.as_slice())
        .map_err(|e| ConfigError::new(e.to_string()))?;
    xds::validate::inspect(&schema, &dynamic).check().map_err(|e| ConfigError::new(e.to_string()))?;
    Ok(message)
}

/// A cluster with the endpoints its configuration names itself.
///
/// # Errors
/// A rule is broken, or something is not supported.
pub fn cluster(
    fetched: &Fetched,
    secrets: &SecretStore,
    workers: usize,
) -> Result<(Cluster, Vec<Arc<Host>>), ConfigError> {
    let _kept = Schema::shared();
    inline_cluster(&typed(fetched)?, secrets, workers)
}

/// The same for a cluster of the bootstrap.
///
/// # Errors
/// Something is not supported.
pub fn inline_cluster(
    config: &ClusterConfig,
    secrets: &SecretStore,
    workers: usize,
) -> Result<(Cluster, Vec<Arc<Host>>), ConfigError> {
    let cluster = crate::cluster::config::cluster(config, secrets, workers)?;
    if matches!(cluster.discovery, crate::cluster::Discovery::Dns(_)) {
        return Ok((cluster, Vec::new()));
    }
    let assignment = config.load_assignment.clone().unwrap_or_default();
    let endpoints = crate::cluster::config::endpoints(&assignment).within("load_assignment")?;
    Ok((cluster, endpoints.into_iter().map(Arc::new).collect()))
}

/// A cluster's endpoints.
///
/// # Errors
/// A rule is broken, or an address is none.
pub fn assignment(fetched: &Fetched) -> Result<Vec<Arc<Host>>, ConfigError> {
    let config: ClusterLoadAssignment = typed(fetched)?;
    Ok(crate::cluster::config::endpoints(&config)?.into_iter().map(Arc::new).collect())
}

/// A listener.
///
/// # Errors
/// A rule is broken, or something is not supported.
pub fn listener(
    fetched: &Fetched,
    secrets: &SecretStore,
    cluster_exists: &dyn Fn(&str) -> bool,
) -> Result<Listener, ConfigError> {
    let _kept = Schema::shared();
    let config: ListenerConfig = typed(fetched)?;
    crate::listener::config::listener(&config, secrets, cluster_exists)
}

/// A route table. Unlike inline ones, its clusters may come later.
///
/// # Errors
/// A rule is broken, or something is not supported.
pub fn route_table(fetched: &Fetched, cluster_exists: &dyn Fn(&str) -> bool) -> Result<RouteTable, ConfigError> {
    let config: RouteConfiguration = typed(fetched)?;
    crate::http::config::discovered_routes(&config, cluster_exists)
}

/// A secret.
///
/// # Errors
/// A rule is broken, or a certificate or key can't be read.
pub fn secret(fetched: &Fetched) -> Result<Secret, ConfigError> {
    let config: SecretConfig = typed(fetched)?;
    crate::tls::config::secret(&config)
}

/// A text of the node's metadata.
pub fn node_text(node: &crate::bootstrap::Node, key: &str) -> Option<String> {
    use envoy_types::pb::google::protobuf::value::Kind;
    match node.metadata.as_ref()?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

/// Whether two encoded resources of a type say the same. Maps encode in no fixed order, so that bytes may differ without anything
/// having changed; Envoy compares likewise.
pub fn same(type_url: &str, one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    // What differs in length by more than the order of things could not be the same.
    if one.len() != other.len() {
        return false;
    }
    let schema = Schema::shared();
    let shown = |bytes: &[u8]| {
        let message = xds::type_url::message_name(type_url);
        let json = xds::json::print_encoded(&schema, message, bytes, xds::json::Secrets::Show).ok()?;
        serde_json::from_str::<serde_json::Value>(&json.compact()).ok()
    };
    shown(one).is_some_and(|one| shown(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_of_a_stream() {
        let seconds = |seconds: Option<i64>| {
            seconds.map(|seconds| envoy_types::pb::google::protobuf::Duration { seconds, nanos: 0 })
        };
        let check = |base, most, expected: Option<(u64, u64)>| {
            let strategy = core::BackoffStrategy { base_interval: seconds(base), max_interval: seconds(most) };
            let policy = core::RetryPolicy { retry_back_off: Some(strategy), ..Default::default() };
            let grpc = core::grpc_service::EnvoyGrpc { retry_policy: Some(policy), ..Default::default() };
            let got = back_off(&grpc).ok().map(|got| (got.first.as_secs(), got.longest.as_secs()));
            assert_eq!(got, expected, "{base:?} {most:?}");
        };
        check(Some(1), Some(3), Some((1, 3)));
        check(Some(2), None, Some((2, 20)));
        check(Some(3), Some(1), None);
        assert_eq!(back_off(&Default::default()).unwrap(), BackOff::default());
    }
}
