//! Where figures are asked for: at a cluster's metrics API, or for the same answers at a pilot's monitoring address. Not what they say.

use std::path::PathBuf;

use anyhow::{Context, bail};
use kube::Client;
use pilot::debug::TRAFFIC;
use pilot::kubernetes::Cluster;
use serde_json::Value;
use smi_adapter::metrics::API_VERSION;

use crate::pages;

/// Who is asked for figures.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Asked {
    /// The pilot's monitoring address; by default a cluster's metrics API is asked, and without a cluster 127.0.0.1:15014.
    #[arg(long, value_name = "HOST:PORT", visible_alias = "monitoring")]
    pilot: Option<String>,
    /// The cluster; by default that of KUBECONFIG.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

impl Asked {
    pub(crate) async fn source(&self) -> anyhow::Result<Source> {
        let cluster = match &self.kubeconfig {
            Some(kubeconfig) if self.pilot.is_none() => Some(Cluster::connect(Some(kubeconfig), "").await?.client),
            _ => None,
        };
        Ok(Source::of(self.pilot.as_deref(), cluster))
    }
}

/// Who answers.
pub(crate) enum Source {
    /// The API server, for the metrics API behind it.
    Cluster(Client),
    /// A pilot's monitoring address.
    Pilot(String),
}

impl Source {
    /// A pilot that is named, then the cluster, then the pilot that would be on this machine.
    pub(crate) fn of(pilot: Option<&str>, cluster: Option<Client>) -> Self {
        match (pilot, cluster) {
            (Some(pilot), _) => Self::Pilot(pilot.to_owned()),
            (None, Some(client)) => Self::Cluster(client),
            (None, None) => Self::Pilot(pages::NEAR.to_owned()),
        }
    }

    /// What the metrics API answers to a path of its own, such as `/pods`.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let path = format!("/apis/{API_VERSION}{path}");
        match self {
            Self::Cluster(client) => {
                let answer = pages::object(client, &path).await.context("the cluster's metrics API")?;
                Ok(serde_json::from_str(&answer)?)
            }
            Self::Pilot(address) => at_pilot(address, &path).await,
        }
    }

    /// The paths of the kinds that it has figures of.
    pub(crate) async fn kinds(&self) -> anyhow::Result<Vec<String>> {
        let list = self.get("").await?;
        let resources = list["resources"].as_array().context("the metrics API lists no kinds")?;
        Ok(resources.iter().filter_map(|resource| resource["name"].as_str().map(str::to_owned)).collect())
    }
}

async fn at_pilot(address: &str, path: &str) -> anyhow::Result<Value> {
    let (head, body) = pages::ask(address, &format!("{TRAFFIC}{path}")).await?;
    let value: Value = serde_json::from_str(&body).unwrap_or_default();
    if !head.contains(" 200 ") {
        let message = value["message"].as_str();
        bail!("{}", message.unwrap_or("this pilot gathers no figures: see its --without"))
    }
    Ok(value)
}
