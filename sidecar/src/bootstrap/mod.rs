//! The bootstrap file → the `Bootstrap` message, and its static resources → what the proxy runs.

mod runtime;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use prost::{Message, Name};
use xds::Schema;
use xds::document::Format;
use xds::json::{UnknownFields, parse};

use crate::assemble::config::{Source, inline_cluster, server, subscription};
use crate::assemble::{Dynamic, Made};
use crate::config::{ConfigError, Within, address, each};
use crate::listener::Listener;
use crate::options::Options;
use crate::tls::SecretStore;

pub use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
pub use envoy_types::pb::envoy::config::core::v3::Node;

/// Reads the bootstrap that the options name.
///
/// # Errors
/// No file, a text that is none, an unknown field, or a value that breaks a rule: with the field's path.
pub fn load(options: &Options) -> Result<Bootstrap> {
    let unknown = match options.allow_unknown_static_fields {
        true => UnknownFields::Collect,
        false => UnknownFields::Refuse,
    };
    match (&options.config_path, &options.config_yaml) {
        (None, None) => bail!("At least one of --config-path or --config-yaml should be non-empty"),
        (None, Some(text)) => read(text, Format::Yaml, unknown),
        (Some(path), None) => read_file(path, unknown).with_context(|| format!("{}", path.display())),
        (Some(path), Some(text)) => {
            let mut bootstrap: Bootstrap = read_file(path, unknown).with_context(|| format!("{}", path.display()))?;
            let over: Bootstrap = read(text, Format::Yaml, unknown).context("--config-yaml")?;
            // Protobuf's own merge, as Envoy's: what the text sets wins, lists are joined.
            bootstrap.merge(over.encode_to_vec().as_slice())?;
            Ok(bootstrap)
        }
    }
}

/// Reads a message from a file: YAML, JSON (`.json`) or protobuf (`.pb`).
///
/// # Errors
/// The file can't be read, or is no such message.
pub fn read_file<T: Message + Name + Default>(path: &Path, unknown: UnknownFields) -> Result<T> {
    let bytes = std::fs::read(path).context("unable to read file")?;
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    if extension == "pb" {
        return Ok(T::decode(bytes.as_slice())?);
    }
    let text = String::from_utf8(bytes).context("is not UTF-8")?;
    read(&text, if extension == "json" { Format::Json } else { Format::Yaml }, unknown)
}

fn read<T: Message + Name + Default>(text: &str, format: Format, unknown: UnknownFields) -> Result<T> {
    let schema = Schema::shared();
    let read = parse::<T>(&schema, text, format, unknown)?.message;
    let descriptor = xds::json::descriptor::<T>(&schema)?;
    let message = prost_reflect::DynamicMessage::decode(descriptor, read.encode_to_vec().as_slice())?;
    xds::validate::inspect(&schema, &message).check().map_err(|e| anyhow!("{e}"))?;
    Ok(read)
}

/// What the bootstrap comes to.
pub struct Compiled {
    pub clusters: Vec<Made>,
    pub listeners: Vec<Arc<Listener>>,
    pub secrets: Arc<SecretStore>,
    pub dynamic: Dynamic,
    pub admin: Option<SocketAddr>,
    pub node: Node,
}

/// Compiles the bootstrap for `workers` workers.
///
/// # Errors
/// The first resource that can't be used, with the field's path.
pub fn compile(bootstrap: &Bootstrap, options: &Options, workers: usize) -> Result<Compiled, ConfigError> {
    refuse_unsupported(bootstrap)?;
    let node = node(bootstrap, options);
    crate::observe::trace::set_node(crate::observe::trace::Node {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        zone: node.locality.as_ref().map(|l| l.zone.clone()).unwrap_or_default(),
    });
    crate::observe::workload::set_own(crate::observe::workload::config::own(&node));
    crate::runtime::set(runtime::layers(bootstrap, &node.cluster)?);
    let resources = bootstrap.static_resources.clone().unwrap_or_default();
    let secrets = SecretStore::new();
    for (i, config) in resources.secrets.iter().enumerate() {
        let secret = crate::tls::config::secret(config).within(&format!("static_resources.secrets[{i}]"))?;
        secrets.add_static(&config.name, secret);
    }
    let mut names = BTreeSet::new();
    let clusters = each("static_resources.clusters", &resources.clusters, |config| {
        let (cluster, endpoints) = inline_cluster(config, &secrets, workers)?;
        Ok(Made { cluster: Arc::new(cluster), endpoints })
    })?;
    for (i, made) in clusters.iter().enumerate() {
        if !names.insert(made.cluster.name.to_string()) {
            let path = format!("static_resources.clusters[{i}]");
            return Err(ConfigError::at(path, format!("cluster manager: duplicate cluster '{}'", made.cluster.name)));
        }
    }
    let known = |name: &str| names.contains(name);
    let listeners = each("static_resources.listeners", &resources.listeners, |config| {
        crate::listener::config::listener(config, &secrets, &known).map(Arc::new)
    })?;
    let admin = bootstrap.admin.as_ref().and_then(|admin| admin.address.as_ref());
    let admin = match admin {
        None => None,
        Some(configured) => address(Some(configured)).within("admin.address")?.socket(),
    };
    let dynamic = dynamic(bootstrap, &known)?;
    Ok(Compiled { clusters, listeners, secrets, dynamic, admin, node })
}

fn dynamic(bootstrap: &Bootstrap, known: &dyn Fn(&str) -> bool) -> Result<Dynamic, ConfigError> {
    let Some(config) = &bootstrap.dynamic_resources else { return Ok(Dynamic::default()) };
    let ads = config.ads_config.as_ref().map(server).transpose().within("dynamic_resources.ads_config")?;
    let clusters = config.cds_config.as_ref().map(subscription).transpose().within("dynamic_resources.cds_config")?;
    let listeners = config.lds_config.as_ref().map(subscription).transpose().within("dynamic_resources.lds_config")?;
    let streams = [&clusters, &listeners].into_iter().flatten().filter_map(|s| match &s.source {
        Source::Stream(server) => Some(server),
        Source::Ads | Source::Path { .. } => None,
    });
    for server in ads.iter().chain(streams) {
        if !known(&server.cluster) {
            return Err(ConfigError::at(
                "dynamic_resources",
                format!("Unknown gRPC client cluster '{}': it must be a static cluster", server.cluster),
            ));
        }
    }
    Ok(Dynamic { ads, clusters, listeners })
}

/// Who this proxy says it is. Flags go before the file, as in Envoy.
fn node(bootstrap: &Bootstrap, options: &Options) -> Node {
    let mut node = bootstrap.node.clone().unwrap_or_default();
    if !options.service_node.is_empty() {
        node.id.clone_from(&options.service_node);
    }
    if !options.service_cluster.is_empty() {
        node.cluster.clone_from(&options.service_cluster);
    }
    if !options.service_zone.is_empty() {
        node.locality.get_or_insert_default().zone.clone_from(&options.service_zone);
    }
    node.user_agent_name = "outrigger".to_owned();
    node.user_agent_version_type = Some(UserAgentVersionType::UserAgentVersion(env!("CARGO_PKG_VERSION").to_owned()));
    node
}

fn refuse_unsupported(bootstrap: &Bootstrap) -> Result<(), ConfigError> {
    let unsupported = [
        ("hds_config", bootstrap.hds_config.is_some()),
        ("overload_manager", bootstrap.overload_manager.is_some()),
        ("stats_sinks", !bootstrap.stats_sinks.is_empty()),
    ];
    match unsupported.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(ConfigError::at(*field, "is not supported yet")),
        None => Ok(()),
    }
}
