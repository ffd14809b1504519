//! `outrigger check`: is everything in a cluster as it should be. Each failed line says what to do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use injector::Marks;
use injector::missing::Missing;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use kube::{Api, Client};
use pilot::kubernetes::{Cluster, marks};
use serde::Serialize;

use crate::Output;

/// The oldest server that is supported, by minor version.
const OLDEST: u32 = 28;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  outrigger check --pre\n  outrigger check -o json")]
pub(crate) struct Flags {
    /// Before an installation: can there be one.
    #[arg(long)]
    pre: bool,
    /// The cluster; by default that of KUBECONFIG.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// The namespace of everything of ours.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "outrigger-system")]
    namespace: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Line {
    check: &'static str,
    ok: bool,
    /// What is wrong, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let lines = crate::runtime()?.block_on(look(flags))?;
    match flags.output {
        Output::Table => {
            for line in &lines {
                match &line.problem {
                    None => println!("ok      {}", line.check),
                    Some(problem) => println!("not ok  {}: {problem}", line.check),
                }
            }
        }
        Output::Json => println!("{}", serde_json::to_string_pretty(&lines)?),
        Output::Yaml => print!("{}", serde_saphyr::to_string(&lines)?),
    }
    Ok(if lines.iter().all(|line| line.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn look(flags: &Flags) -> anyhow::Result<Vec<Line>> {
    let cluster = Cluster::connect(flags.kubeconfig.as_deref(), &flags.namespace).await?;
    let mut lines = Vec::new();
    let mut told = |check, looked: anyhow::Result<()>| {
        let problem = looked.err().map(|error| format!("{error:#}"));
        lines.push(Line { check, ok: problem.is_none(), problem });
    };
    told("the API server is new enough", version(&cluster.client).await);
    if flags.pre {
        told("you may install", may_install(&cluster.client).await);
        return Ok(lines);
    }
    told("the namespace is there", namespace(&cluster).await);
    told("the kinds are defined", kinds(&cluster.client).await);
    told("a pilot is at work", pilot(&cluster).await);
    told("the API server trusts the webhooks", webhooks(&cluster.client).await);
    told("every namespace has the root certificate", roots(&cluster.client).await);
    told("pods that should have a sidecar have one", sidecars(&cluster).await);
    Ok(lines)
}

async fn version(client: &Client) -> anyhow::Result<()> {
    let version = client.apiserver_version().await.context("the API server does not answer: see --kubeconfig")?;
    let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
    let minor: u32 = digits.parse().unwrap_or(0);
    anyhow::ensure!(minor >= OLDEST, "it is 1.{minor}: upgrade it to 1.{OLDEST} or newer");
    Ok(())
}

async fn may_install(client: &Client) -> anyhow::Result<()> {
    let needed = [
        ("", "namespaces"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("apps", "deployments"),
    ];
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    for (group, resource) in needed {
        let attributes = ResourceAttributes {
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            verb: Some("create".to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let told = reviews.create(&PostParams::default(), &review).await?;
        let allowed = told.status.is_some_and(|status| status.allowed);
        anyhow::ensure!(allowed, "you may not create {resource}: ask for cluster-admin");
    }
    Ok(())
}

async fn namespace(cluster: &Cluster) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let found = namespaces.get_opt(&cluster.namespace).await?;
    anyhow::ensure!(found.is_some(), "there is no namespace {}: run `outrigger install`", cluster.namespace);
    Ok(())
}

async fn kinds(client: &Client) -> anyhow::Result<()> {
    let groups = client.list_api_groups().await?;
    for group in ["mesh.outrigger.dev", "split.smi-spec.io", "access.smi-spec.io", "specs.smi-spec.io"] {
        let there = groups.groups.iter().any(|known| known.name == group);
        anyhow::ensure!(there, "group {group} is not there: run `outrigger install`");
    }
    Ok(())
}

/// A Deployment that is available, or a pilot elsewhere that holds the lease.
async fn pilot(cluster: &Cluster) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    if let Some(deployment) = deployments.get_opt("outrigger-pilot").await? {
        let ready = deployment.status.and_then(|status| status.available_replicas).unwrap_or(0);
        anyhow::ensure!(ready > 0, "no replica is available: see `kubectl -n {} describe pods`", cluster.namespace);
        return Ok(());
    }
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let renewed = leases.get_opt("outrigger-leader").await?.and_then(|lease| lease.spec?.renew_time);
    let fresh = renewed.is_some_and(|time| jiff::Timestamp::now().duration_since(time.0).as_secs() < 30);
    anyhow::ensure!(fresh, "there is no Deployment, and no pilot outside the cluster renews the lease: start one");
    Ok(())
}

async fn webhooks(client: &Client) -> anyhow::Result<()> {
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        let resource = ApiResource {
            group: "admissionregistration.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "admissionregistration.k8s.io/v1".to_owned(),
            kind: kind.to_owned(),
            plural: format!("{}s", kind.to_lowercase()),
        };
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let found = api.get_opt("outrigger-injector").await?;
        let found =
            found.with_context(|| format!("{kind} outrigger-injector is not there: run `outrigger install`"))?;
        let webhooks = found.data["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let trusted = webhooks.iter().all(|webhook| webhook["clientConfig"].get("caBundle").is_some());
        anyhow::ensure!(trusted, "{kind} outrigger-injector has no caBundle: no pilot has been at work yet");
    }
    Ok(())
}

async fn roots(client: &Client) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::all(client.clone());
    let maps = maps.list(&ListParams::default().fields("metadata.name=outrigger-ca-root")).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for namespace in namespaces.list(&ListParams::default()).await? {
        let name = namespace.metadata.name.unwrap_or_default();
        let going = namespace.metadata.deletion_timestamp.is_some();
        let there = maps.iter().any(|map| map.metadata.namespace.as_deref() == Some(name.as_str()));
        anyhow::ensure!(going || there, "namespace {name} has none: see the pilot's log");
    }
    Ok(())
}

/// Pods that were there before their namespace's label.
async fn sidecars(cluster: &Cluster) -> anyhow::Result<()> {
    let settings = pilot::kubernetes::read_settings(cluster).await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let namespaces = namespaces.list(&ListParams::default()).await?;
    let marks: BTreeMap<String, Marks> = namespaces
        .into_iter()
        .map(|namespace| (namespace.metadata.name.clone().unwrap_or_default(), marks::of(namespace.metadata)))
        .collect();
    let pods: Api<Pod> = Api::all(cluster.client.clone());
    let mut missing = Vec::new();
    for pod in pods.list(&ListParams::default()).await? {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let Some(marks) = marks.get(&namespace) else { continue };
        if let Some(why) = Missing::of(&serde_json::to_value(&pod)?, &namespace, marks, &settings) {
            missing.push(format!("pod {namespace}/{}: {why}", pod.metadata.name.unwrap_or_default()));
        }
    }
    anyhow::ensure!(missing.is_empty(), "{}", missing.join("; "));
    Ok(())
}
