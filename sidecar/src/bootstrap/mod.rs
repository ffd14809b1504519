//! The bootstrap file → the `Bootstrap` message, and its static resources → what the proxy runs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use prost::Message;
use xds::Schema;
use xds::document::Format;
use xds::json::{UnknownFields, parse};

use crate::cluster::HostSet;
use crate::config::{ConfigError, Within, address};
use crate::listener::Listener;
use crate::options::Options;
use crate::snapshot::{ClusterEntry, Snapshot};
use crate::tls::SecretStore;

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
        (Some(path), None) => from_file(path, unknown).with_context(|| format!("{}", path.display())),
        (Some(path), Some(text)) => {
            let mut bootstrap = from_file(path, unknown).with_context(|| format!("{}", path.display()))?;
            let over = read(text, Format::Yaml, unknown).context("--config-yaml")?;
            // Protobuf's own merge, as Envoy's: what the text sets wins, lists are joined.
            bootstrap.merge(over.encode_to_vec().as_slice())?;
            Ok(bootstrap)
        }
    }
}

fn from_file(path: &Path, unknown: UnknownFields) -> Result<Bootstrap> {
    let bytes = std::fs::read(path).context("unable to read file")?;
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    if extension == "pb" {
        return Ok(Bootstrap::decode(bytes.as_slice())?);
    }
    let text = String::from_utf8(bytes).context("is not UTF-8")?;
    read(&text, if extension == "json" { Format::Json } else { Format::Yaml }, unknown)
}

fn read(text: &str, format: Format, unknown: UnknownFields) -> Result<Bootstrap> {
    let schema = Schema::shared();
    let bootstrap = parse::<Bootstrap>(&schema, text, format, unknown)?.message;
    let descriptor = xds::json::descriptor::<Bootstrap>(&schema)?;
    let message = prost_reflect::DynamicMessage::decode(descriptor, bootstrap.encode_to_vec().as_slice())?;
    xds::validate::inspect(&schema, &message).check().map_err(|e| anyhow!("{e}"))?;
    Ok(bootstrap)
}

/// What the static resources come to.
pub struct Static {
    pub snapshot: Snapshot,
    pub listeners: Vec<Arc<Listener>>,
    pub admin: Option<SocketAddr>,
}

/// Compiles the static resources for `workers` workers.
///
/// # Errors
/// The first resource that can't be used, with the field's path.
pub fn compile(bootstrap: &Bootstrap, workers: usize) -> Result<Static, ConfigError> {
    refuse_unsupported(bootstrap)?;
    let resources = bootstrap.static_resources.clone().unwrap_or_default();
    let secrets = SecretStore::new();
    for (i, config) in resources.secrets.iter().enumerate() {
        let secret = crate::tls::config::secret(config).within(&format!("static_resources.secrets[{i}]"))?;
        secrets.add_static(&config.name, secret);
    }
    let mut snapshot = Snapshot::default();
    for (i, config) in resources.clusters.iter().enumerate() {
        let path = format!("static_resources.clusters[{i}]");
        let cluster = crate::cluster::config::cluster(config, &secrets, workers).within(&path)?;
        let assignment = config.load_assignment.clone().unwrap_or_default();
        let endpoints = crate::cluster::config::endpoints(&assignment).within(&format!("{path}.load_assignment"))?;
        let hosts = Arc::new(HostSet::new(endpoints.into_iter().map(Arc::new).collect(), cluster.panic_threshold));
        cluster.stats.membership_total.set(hosts.all.len() as u64);
        cluster.stats.membership_healthy.set(hosts.healthy() as u64);
        let name = cluster.name.clone();
        if snapshot.clusters.insert(name, ClusterEntry { cluster: Arc::new(cluster), hosts }).is_some() {
            return Err(ConfigError::at(path, format!("cluster manager: duplicate cluster '{}'", config.name)));
        }
    }
    let known = |name: &str| snapshot.clusters.contains_key(name);
    let listeners = crate::config::each("static_resources.listeners", &resources.listeners, |config| {
        crate::listener::config::listener(config, &secrets, &known).map(Arc::new)
    })?;
    let admin = bootstrap.admin.as_ref().and_then(|admin| admin.address.as_ref());
    let admin = match admin {
        None => None,
        Some(configured) => address(Some(configured)).within("admin.address")?.socket(),
    };
    Ok(Static { snapshot, listeners, admin })
}

fn refuse_unsupported(bootstrap: &Bootstrap) -> Result<(), ConfigError> {
    let unsupported = [
        ("dynamic_resources", bootstrap.dynamic_resources.is_some()),
        ("hds_config", bootstrap.hds_config.is_some()),
        ("overload_manager", bootstrap.overload_manager.is_some()),
        ("stats_sinks", !bootstrap.stats_sinks.is_empty()),
    ];
    match unsupported.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(ConfigError::at(*field, "is not supported yet")),
        None => Ok(()),
    }
}
