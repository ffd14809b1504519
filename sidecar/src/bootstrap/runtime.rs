//! `layered_runtime` (or the older `runtime`) → values by key. Source: Envoy's "Runtime" page.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use envoy_types::pb::envoy::config::bootstrap::v3::runtime_layer::LayerSpecifier;
use envoy_types::pb::envoy::config::bootstrap::v3::{Bootstrap, RuntimeLayer};
use serde_json::Value;

use crate::config::{ConfigError, Within, structure};
use crate::runtime::flatten;

/// All layers' values, a later layer's in front.
///
/// # Errors
/// A layer that is fetched (RTDS), which is not supported.
pub fn values(bootstrap: &Bootstrap, service_cluster: &str) -> Result<BTreeMap<String, Value>, ConfigError> {
    let mut values = BTreeMap::new();
    let layers = bootstrap.layered_runtime.as_ref().map_or(&[][..], |runtime| runtime.layers.as_slice());
    for (i, config) in layers.iter().enumerate() {
        layer(config, service_cluster, &mut values).within(&format!("layered_runtime.layers[{i}]"))?;
    }
    Ok(values)
}

fn layer(
    config: &RuntimeLayer,
    service_cluster: &str,
    values: &mut BTreeMap<String, Value>,
) -> Result<(), ConfigError> {
    match &config.layer_specifier {
        Some(LayerSpecifier::StaticLayer(fields)) => flatten("", structure(fields), values),
        Some(LayerSpecifier::DiskLayer(disk)) => {
            let mut root = PathBuf::from(&disk.symlink_root).join(&disk.subdirectory);
            if disk.append_service_cluster {
                root = root.join(service_cluster);
            }
            read_folder(&root, "", values);
        }
        Some(LayerSpecifier::RtdsLayer(_)) => return Err(ConfigError::at("rtds_layer", "is not supported yet")),
        // What operators set by the admin page: nothing yet.
        Some(LayerSpecifier::AdminLayer(_)) => {}
        None => return Err(ConfigError::new("layer_specifier is required")),
    }
    Ok(())
}

/// A file is a key, its text the value; what can't be read is left out, as in Envoy.
fn read_folder(folder: &Path, prefix: &str, values: &mut BTreeMap<String, Value>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        if entry.path().is_dir() {
            read_folder(&entry.path(), &key, values);
        } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
            let text = text.trim_end();
            values.insert(key, serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())));
        }
    }
}
