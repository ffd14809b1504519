//! `outrigger bug-report`: what whoever looks into a problem will ask for, in a folder of texts that can be read before it is handed
//! out. What cannot be had is said in its place. Never a Secret, a key or a token.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use pilot::kubernetes::Cluster;

use crate::pages::{self, Asked, Pilots};

/// How much of each log is kept.
const LINES: i64 = 2000;
/// The pilots' pages that are kept.
const PAGES: [&str; 5] = ["metrics", "debug/syncz", "debug/configz", "debug/clusterz", "debug/endpointz"];
/// What of our own namespace is kept; no Secrets, and no ConfigMaps but the injector's settings.
const KINDS: [&str; 5] = [
    "/apis/apps/v1/namespaces/NS/deployments",
    "/api/v1/namespaces/NS/pods",
    "/api/v1/namespaces/NS/events",
    "/api/v1/namespaces/NS/configmaps/outrigger-injector",
    "/apis/coordination.k8s.io/v1/namespaces/NS/leases",
];
/// What of the whole cluster is kept.
const WIDE: [&str; 4] = [
    "/version",
    "/apis/mesh.outrigger.dev/v1alpha1/meshconfigs",
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/outrigger-injector",
    "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.metrics.smi-spec.io",
];

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  outrigger bug-report --out report\n  outrigger bug-report --out report -n shop web-5d8f-x2x\n  \
        outrigger bug-report --out report --monitoring 127.0.0.1:15014"
)]
pub(crate) struct Flags {
    /// A folder that is not there yet.
    #[arg(long, value_name = "DIR", default_value = "outrigger-bug-report")]
    out: PathBuf,
    /// Pods or Workloads whose sidecars it is about.
    names: Vec<String>,
    /// Their namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    asked: Asked,
}

/// A folder that is being filled.
struct Report<'a> {
    folder: &'a Path,
    kept: usize,
    missing: String,
}

impl Report<'_> {
    fn keep(&mut self, name: &str, found: anyhow::Result<String>) -> anyhow::Result<()> {
        match found {
            Ok(text) => {
                let file = self.folder.join(name);
                std::fs::create_dir_all(file.parent().unwrap_or(self.folder))?;
                std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
                self.kept += 1;
            }
            Err(error) => writeln!(self.missing, "{name}: {error:#}")?,
        }
        Ok(())
    }
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let folder = flags.out.display();
    std::fs::create_dir(&flags.out).with_context(|| format!("cannot make {folder}: name another folder by --out"))?;
    let mut report = Report { folder: &flags.out, kept: 0, missing: String::new() };
    report.keep("version.txt", Ok(format!("outrigger {}\n", env!("CARGO_PKG_VERSION"))))?;
    crate::runtime()?.block_on(async {
        if let Some(cluster) = flags.asked.cluster().await? {
            in_cluster(&mut report, &cluster, flags).await?;
        }
        match flags.asked.pilots().await {
            Ok(pilots) => of_pilots(&mut report, &pilots, flags).await,
            Err(error) => report.keep("pilots", Err(error)),
        }
    })?;
    let missing = std::mem::take(&mut report.missing);
    report.keep("missing.txt", Ok(missing.clone()))?;
    println!("{} files in {folder}; what could not be had is in {folder}/missing.txt", report.kept);
    eprint!("{missing}");
    Ok(ExitCode::SUCCESS)
}

async fn of_pilots(report: &mut Report<'_>, pilots: &Pilots, flags: &Flags) -> anyhow::Result<()> {
    for page in PAGES {
        for (pilot, text) in pilots.each(&format!("/{page}")).await {
            report.keep(&format!("pilots/{pilot}/{}", page.trim_start_matches("debug/")), text)?;
        }
    }
    for name in &flags.names {
        let path = format!("/debug/config_dump?proxy={name}.{}", flags.namespace);
        report.keep(&format!("proxies/{name}/told.json"), pilots.any(&path).await)?;
    }
    Ok(())
}

async fn in_cluster(report: &mut Report<'_>, cluster: &Cluster, flags: &Flags) -> anyhow::Result<()> {
    for path in KINDS.iter().chain(&WIDE).map(|path| path.replace("NS", &cluster.namespace)) {
        let name = path.rsplit('/').next().unwrap_or_default();
        report.keep(&format!("cluster/{name}.json"), pages::object(&cluster.client, &path).await)?;
    }
    let pilots: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    match pages::pods(cluster).await {
        Ok(found) => {
            for name in found.into_iter().filter_map(|pod| pod.metadata.name) {
                logs(report, &pilots, &name, None, &format!("pilots/{name}")).await?;
            }
        }
        Err(error) => report.keep("pilots", Err(error))?,
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &flags.namespace);
    for name in &flags.names {
        let path = format!("/api/v1/namespaces/{}/pods/{name}", flags.namespace);
        report.keep(&format!("proxies/{name}/pod.json"), pages::object(&cluster.client, &path).await)?;
        let stats = pages::of_pod(cluster, &flags.namespace, name, pages::PROXY_STATS).await;
        report.keep(&format!("proxies/{name}/stats.txt"), stats)?;
        logs(report, &pods, name, Some(injector::SIDECAR), &format!("proxies/{name}")).await?;
    }
    Ok(())
}

/// What a container says, and what it said before it was started again.
async fn logs(
    report: &mut Report<'_>,
    pods: &Api<Pod>,
    pod: &str,
    container: Option<&str>,
    folder: &str,
) -> anyhow::Result<()> {
    let asked = LogParams { container: container.map(str::to_owned), tail_lines: Some(LINES), ..LogParams::default() };
    report.keep(&format!("{folder}/log.txt"), pods.logs(pod, &asked).await.map_err(Into::into))?;
    if let Ok(before) = pods.logs(pod, &LogParams { previous: true, ..asked }).await {
        report.keep(&format!("{folder}/log-before.txt"), Ok(before))?;
    }
    Ok(())
}
