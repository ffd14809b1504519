//! `layered_runtime` (or the older `runtime`) → values by key. Source: Envoy's "Runtime" page.

use std::path::{Path, PathBuf};

use envoy_types::pb::envoy::config::bootstrap::v3::runtime_layer::LayerSpecifier;
use envoy_types::pb::envoy::config::bootstrap::v3::{Bootstrap, RuntimeLayer};
use serde_json::Value;

use crate::config::{ConfigError, each, structure};
use crate::runtime::{Layer, Values, flatten};

/// All layers, the one that goes in front last.
///
/// # Errors
/// A layer that is fetched (RTDS), which is not supported.
pub fn layers(bootstrap: &Bootstrap, service_cluster: &str) -> Result<Vec<Layer>, ConfigError> {
    let layers = bootstrap.layered_runtime.as_ref().map_or(&[][..], |runtime| runtime.layers.as_slice());
    each("layered_runtime.layers", layers, |config| layer(config, service_cluster))
}

fn layer(config: &RuntimeLayer, service_cluster: &str) -> Result<Layer, ConfigError> {
    let mut layer = Layer { name: config.name.clone(), ..Layer::default() };
    match &config.layer_specifier {
        Some(LayerSpecifier::StaticLayer(fields)) => flatten("", structure(fields), &mut layer.values),
        Some(LayerSpecifier::DiskLayer(disk)) => {
            let mut root = PathBuf::from(&disk.symlink_root).join(&disk.subdirectory);
            if disk.append_service_cluster {
                root = root.join(service_cluster);
            }
            read_folder(&root, "", &mut layer.values);
        }
        Some(LayerSpecifier::RtdsLayer(_)) => return Err(ConfigError::at("rtds_layer", "is not supported yet")),
        Some(LayerSpecifier::AdminLayer(_)) => layer.admin = true,
        None => return Err(ConfigError::new("layer_specifier is required")),
    }
    Ok(layer)
}

/// A file is a key, its text the value; what can't be read is left out, as in Envoy.
fn read_folder(folder: &Path, prefix: &str, values: &mut Values) {
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
