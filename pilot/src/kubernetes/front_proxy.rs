//! By what certificate the API server proves itself when it asks for users. Source: Kubernetes, "Configure the Aggregation Layer".

use anyhow::Context;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

/// Who may ask.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// PEM of the roots that its certificate must have.
    pub roots: String,
    /// Common names that it may have; empty: any.
    pub names: Vec<String>,
}

/// Reads it.
///
/// # Errors
/// When the API server does not tell.
pub(super) async fn read(client: &Client) -> anyhow::Result<FrontProxy> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let map = maps.get("extension-apiserver-authentication").await?;
    let data = map.data.unwrap_or_default();
    let roots = data.get("requestheader-client-ca-file").context("the API server has no front proxy's CA")?;
    let names = data.get("requestheader-allowed-names").map(|names| serde_json::from_str(names)).transpose()?;
    Ok(FrontProxy { roots: roots.clone(), names: names.unwrap_or_default() })
}
