//! `outrigger inject|uninject`: what the webhook does to pods, done to files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use daemon::program::text;
use injector::Settings;
use injector::decide::{Namespace, decide};
use injector::manifests::{self, Change};
use k8s_openapi::api::core::v1::{self as core, Pod};
use kube::Api;
use pilot::kubernetes::{self, Cluster};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  outrigger inject -f web.yaml | kubectl apply -f -\n  outrigger inject --explain web.yaml"
)]
pub(crate) struct Flags {
    /// A file of objects, or `-`.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required_unless_present = "explain")]
    file: Option<PathBuf>,
    /// Say which rule decides about each workload of a file, or about a pod of the cluster, and change nothing.
    #[arg(long, value_name = "POD|FILE")]
    explain: Option<PathBuf>,
    /// The namespace of that pod.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    #[command(flatten)]
    cluster: Reach,
}

/// A cluster whose installation says what sidecars are; without one, the defaults hold.
#[derive(Debug, clap::Args)]
struct Reach {
    /// The cluster; by default that of KUBECONFIG.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// The namespace of everything of ours.
    #[arg(long, value_name = "NAMESPACE", default_value = "outrigger-system")]
    system_namespace: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outrigger uninject -f web-injected.yaml")]
pub(crate) struct Uninject {
    /// A file of objects, or `-`.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn inject(flags: &Flags) -> anyhow::Result<ExitCode> {
    let settings = settings(&flags.cluster)?;
    if let Some(pod) = flags.explain.as_ref().filter(|name| !name.exists() && *name != Path::new("-")) {
        println!("{}", crate::runtime()?.block_on(explain_pod(flags, &pod.display().to_string(), &settings))?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &flags.explain {
        for (workload, decision) in manifests::explain(&text(file)?, &settings)? {
            println!("{workload}: {decision}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let file = flags.file.as_deref().context("name a file by -f")?;
    print!("{}", manifests::change(&text(file)?, Change::Inject, &settings)?);
    Ok(ExitCode::SUCCESS)
}

/// Which rule decides about a pod as it is, and as it would be made anew.
async fn explain_pod(flags: &Flags, name: &str, settings: &Settings) -> anyhow::Result<String> {
    let kubeconfig = flags.cluster.kubeconfig.as_deref();
    let missing = || format!("{name} is no file, and without --kubeconfig no pod");
    let cluster = Cluster::connect(Some(kubeconfig.with_context(missing)?), &flags.cluster.system_namespace).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &flags.namespace);
    let pod = pods.get_opt(name).await?;
    let pod =
        pod.with_context(|| format!("there is no file {name}, and no such pod in namespace {}", flags.namespace))?;
    let namespaces: Api<core::Namespace> = Api::all(cluster.client);
    let marks = kubernetes::marks::of(namespaces.get(&flags.namespace).await?.metadata);
    let pod = serde_json::to_value(&pod)?;
    let decision = decide(&pod, &flags.namespace, Namespace::Known(&marks), settings).map_err(anyhow::Error::msg)?;
    Ok(format!("Pod/{name}: {decision}"))
}

pub(crate) fn uninject(flags: &Uninject) -> anyhow::Result<ExitCode> {
    print!("{}", manifests::change(&text(&flags.file)?, Change::Uninject, &Settings::default())?);
    Ok(ExitCode::SUCCESS)
}

fn settings(reach: &Reach) -> anyhow::Result<Settings> {
    let Some(kubeconfig) = &reach.kubeconfig else { return Ok(Settings::default()) };
    let read = crate::runtime()?.block_on(async {
        let cluster = Cluster::connect(Some(kubeconfig), &reach.system_namespace).await?;
        kubernetes::read_settings(&cluster).await
    });
    Ok(read.unwrap_or_else(|error| {
        eprintln!("outrigger: no cluster in reach ({error:#}): the defaults hold");
        Settings::default()
    }))
}
