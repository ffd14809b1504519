//! `envoy.extensions.filters.http.set_metadata.v3.Config` → [`SetMetadata`].

use envoy_types::pb::envoy::extensions::filters::http::set_metadata::v3::Config;

use super::{Entry, SetMetadata};
use crate::config::{ConfigError, each, structure};

/// Compiles the filter.
///
/// # Errors
/// Typed metadata, which is not supported.
pub fn filter(name: &str, config: &Config) -> Result<SetMetadata, ConfigError> {
    let mut entries = each("metadata", &config.metadata, |metadata| {
        if metadata.typed_value.is_some() {
            return Err(ConfigError::at("typed_value", "is not supported yet"));
        }
        Ok(Entry {
            namespace: metadata.metadata_namespace.clone(),
            value: metadata.value.as_ref().map_or(serde_json::json!({}), structure),
            overwrite: metadata.allow_overwrite,
        })
    })?;
    #[allow(deprecated)] // The form that the list replaced.
    if let (false, Some(value)) = (config.metadata_namespace.is_empty(), &config.value) {
        entries.insert(
            0,
            Entry { namespace: config.metadata_namespace.clone(), value: structure(value), overwrite: true },
        );
    }
    Ok(SetMetadata { name: name.to_owned(), entries })
}
