//! The pilots' pages: at a monitoring address, or, in a cluster, of every pilot's pod by way of the API server. Not what is on them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::future::join_all;
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use pilot::kubernetes::Cluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A pilot on this machine.
pub(crate) const NEAR: &str = "127.0.0.1:15014";
/// The port of a pilot's pages in a cluster.
const PORT: u16 = 15014;
/// Where a proxy says what it counts.
pub(crate) const PROXY_STATS: (u16, &str) = (15090, "/stats/prometheus");
/// What pods are pilots.
const PILOTS: &str = "app.kubernetes.io/name=outrigger-pilot";
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Whose pages are read.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Asked {
    /// The pilot's monitoring address; by default a cluster's pilots are asked, and without a cluster 127.0.0.1:15014.
    #[arg(long, value_name = "HOST:PORT", visible_alias = "pilot")]
    monitoring: Option<String>,
    /// The cluster; by default that of KUBECONFIG.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// The namespace of everything of ours in it.
    #[arg(long, value_name = "NAMESPACE", default_value = "outrigger-system")]
    system_namespace: String,
}

impl Asked {
    /// The cluster, if one is meant.
    ///
    /// # Errors
    /// When its kubeconfig says nothing usable.
    pub(crate) async fn cluster(&self) -> anyhow::Result<Option<Cluster>> {
        let Some(kubeconfig) = &self.kubeconfig else { return Ok(None) };
        Cluster::connect(Some(kubeconfig), &self.system_namespace).await.map(Some)
    }

    /// Who is asked.
    ///
    /// # Errors
    /// When the cluster does not answer, or no pilot runs there.
    pub(crate) async fn pilots(&self) -> anyhow::Result<Pilots> {
        if let Some(address) = &self.monitoring {
            return Ok(Pilots::At(address.clone()));
        }
        let Some(cluster) = self.cluster().await? else { return Ok(Pilots::At(NEAR.to_owned())) };
        let found = pods(&cluster).await?;
        let names: Vec<String> = found.into_iter().filter(runs).filter_map(|pod| pod.metadata.name).collect();
        ensure!(
            !names.is_empty(),
            "no pilot runs in namespace {}: `outrigger check` says why; one outside the cluster is named by --monitoring HOST:PORT",
            cluster.namespace
        );
        Ok(Pilots::In(cluster, names))
    }
}

/// The pilots' pods, however they are.
pub(crate) async fn pods(cluster: &Cluster) -> anyhow::Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    Ok(pods.list(&ListParams::default().labels(PILOTS)).await.context("the pilots' pods")?.items)
}

fn runs(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}

/// Who answers.
pub(crate) enum Pilots {
    /// One, at its monitoring address.
    At(String),
    /// Pods of a cluster.
    In(Cluster, Vec<String>),
}

impl Pilots {
    /// A page of each pilot, with the pilot's name.
    pub(crate) async fn each(&self, path: &str) -> Vec<(String, anyhow::Result<String>)> {
        match self {
            Self::At(address) => vec![(address.clone(), get(address, path).await)],
            Self::In(cluster, names) => {
                let asked = names.iter().map(|name| async {
                    let namespace = &cluster.namespace;
                    (name.clone(), of_pod(cluster, namespace, name, (PORT, path)).await)
                });
                join_all(asked).await
            }
        }
    }

    /// The page of the first that has it.
    pub(crate) async fn any(&self, path: &str) -> anyhow::Result<String> {
        let mut last = None;
        for (_, page) in self.each(path).await {
            match page {
                Ok(page) => return Ok(page),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no pilot")?)
    }
}

/// A page of a pod, by way of the API server.
pub(crate) async fn of_pod(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    (port, path): (u16, &str),
) -> anyhow::Result<String> {
    object(&cluster.client, &format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}")).await
}

/// What an API server answers to a path.
pub(crate) async fn object(client: &Client, path: &str) -> anyhow::Result<String> {
    let request = Request::get(path).body(Vec::new())?;
    let answer = tokio::time::timeout(TIMEOUT, client.request_text(request)).await;
    answer.with_context(|| format!("no answer within {TIMEOUT:?}: {path}"))?.with_context(|| path.to_owned())
}

/// The body of a page.
pub(crate) async fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let (head, body) = ask(address, path).await?;
    if !head.contains(" 200 ") {
        bail!("{address}{path} answers: {head}: {}", body.trim());
    }
    Ok(body)
}

/// The first line and the body of an answer, by HTTP/1.0.
pub(crate) async fn ask(address: &str, path: &str) -> anyhow::Result<(String, String)> {
    let asked = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(TIMEOUT, asked).await;
    let answer = answer.map_err(|_| anyhow::anyhow!("no answer within {TIMEOUT:?}")).and_then(|read| Ok(read?));
    let answer = answer.with_context(|| format!("no pilot answers at {address}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the pilot's answer is no HTTP")?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}
