//! Where a TrafficSplit is kept, in manifests or in a cluster: reading its weights, and writing others. Not which.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use api::{Key, Object};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use pilot::kubernetes::Cluster;
use pilot::source::files;
use serde_json::json;

use super::manifest::edit;
use super::weights::{Backend, Weights};

const GROUP: &str = "split.smi-spec.io";
/// The pilot writes annotations of its own into splits, which may come between.
const TRIES: usize = 3;

/// Which split, and where it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// The TrafficSplit.
    split: String,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    place: Place,
}

/// Manifests that are named, then the cluster.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Place {
    /// A folder of manifests, or one manifest, whose text is changed in place; may be given more than once.
    #[arg(short = 'f', long = "filename", value_name = "DIR")]
    files: Vec<PathBuf>,
    /// The cluster, where no manifests are given; by default that of KUBECONFIG.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

/// A split that can be read and written.
pub(super) struct Split {
    pub(super) key: Key,
    store: Store,
}

enum Store {
    Files(Vec<PathBuf>),
    Cluster(Client, ApiResource),
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrafficSplit {}", self.key)
    }
}

impl Named {
    pub(super) async fn open(&self) -> anyhow::Result<Split> {
        let key = Key::new(self.namespace.clone(), self.split.clone());
        let store = match &self.place.kubeconfig {
            Some(kubeconfig) if self.place.files.is_empty() => {
                let client = Cluster::connect(Some(kubeconfig), "").await?.client;
                let resource = resource(&client).await?;
                Store::Cluster(client, resource)
            }
            _ => Store::Files(self.place.files.clone()),
        };
        Ok(Split { key, store })
    }
}

/// In the version that the API server prefers: what weights are is the same in all, once they are whole numbers.
async fn resource(client: &Client) -> anyhow::Result<ApiResource> {
    let groups = client.list_api_groups().await.context("the API server does not answer")?;
    let group = groups.groups.iter().find(|group| group.name == GROUP);
    let version = group.and_then(|group| group.preferred_version.as_ref().or(group.versions.first()));
    let version = version.with_context(|| format!("the cluster knows no {GROUP}: run `outrigger install`"))?;
    Ok(ApiResource {
        group: GROUP.to_owned(),
        version: version.version.clone(),
        api_version: version.group_version.clone(),
        kind: "TrafficSplit".to_owned(),
        plural: "trafficsplits".to_owned(),
    })
}

impl Split {
    /// The cluster that it is in.
    pub(super) fn cluster(&self) -> Option<Client> {
        match &self.store {
            Store::Files(_) => None,
            Store::Cluster(client, _) => Some(client.clone()),
        }
    }

    pub(super) async fn read(&self) -> anyhow::Result<Weights> {
        match &self.store {
            Store::Files(paths) => Ok(in_files(paths, &self.key)?.1),
            Store::Cluster(client, resource) => weights(&self.api(client, resource).get(&self.key.name).await?),
        }
    }

    /// Writes weights for the backends that it has.
    pub(super) async fn write(&self, weights: &Weights) -> anyhow::Result<()> {
        let (client, resource) = match &self.store {
            Store::Files(paths) => return write(&in_files(paths, &self.key)?.0, &self.key, weights),
            Store::Cluster(client, resource) => (client, resource),
        };
        let api = self.api(client, resource);
        for left in (0..TRIES).rev() {
            let change = patch(api.get(&self.key.name).await?, weights)?;
            match api.patch(&self.key.name, &PatchParams::default(), &Patch::Merge(change)).await {
                Err(kube::Error::Api(status)) if status.code == 409 && left > 0 => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn api(&self, client: &Client, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(client.clone(), &self.key.namespace, resource)
    }
}

/// The file that holds a split, and its weights there.
fn in_files(paths: &[PathBuf], key: &Key) -> anyhow::Result<(PathBuf, Weights)> {
    let observed = files::read_once(paths)?;
    let split = observed.objects.traffic_splits.get(key);
    let split = split.with_context(|| format!("no manifest has a TrafficSplit {key} that can be read"))?;
    let file = split.origin.file().context("it is in no file")?;
    Ok((PathBuf::from(file.as_ref()), of(&split.spec.backends)))
}

fn of(backends: &[api::smi::split::Backend]) -> Weights {
    let backend = |b: &api::smi::split::Backend| Backend { service: b.service.clone(), weight: b.weight };
    Weights(backends.iter().map(backend).collect())
}

/// All at once, so that whoever watches the folder never sees half of it; behind a link, what the link means.
fn write(file: &Path, key: &Key, weights: &Weights) -> anyhow::Result<()> {
    let file = file.canonicalize().with_context(|| format!("manifest {}", file.display()))?;
    let name = file.display();
    let text = std::fs::read_to_string(&file).with_context(|| format!("manifest {name}"))?;
    let edited = edit(&text, key, weights).with_context(|| format!("manifest {name}"))?;
    // A dot file is no manifest.
    let draft = file.with_file_name(format!(".outrigger-canary-{}", std::process::id()));
    let written = || -> std::io::Result<()> {
        let mut draft_file = std::fs::File::create(&draft)?;
        draft_file.write_all(edited.as_bytes())?;
        draft_file.set_permissions(file.metadata()?.permissions())?;
        draft_file.sync_all()?;
        std::fs::rename(&draft, &file)
    };
    written().with_context(|| format!("cannot write manifest {name}"))
}

/// An object as an API server gives it, read as any other.
fn weights(object: &DynamicObject) -> anyhow::Result<Weights> {
    let read = api::manifest::read_json(serde_json::to_value(object)?);
    match read.objects.first() {
        Some((Object::TrafficSplit(split), _)) => Ok(of(&split.spec.backends)),
        _ => anyhow::bail!("it cannot be read: {}", read.problems.first().map(ToString::to_string).unwrap_or_default()),
    }
}

/// A list can only be replaced as a whole; it is refused if anybody changed the object since.
fn patch(object: DynamicObject, weights: &Weights) -> anyhow::Result<serde_json::Value> {
    let mut backends = object.data["spec"]["backends"].clone();
    let items = backends.as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
    let same = items.iter().map(|item| item["service"].as_str()).eq(weights.0.iter().map(|b| Some(b.service.as_str())));
    anyhow::ensure!(same, "its backends are others now");
    for (item, backend) in items.iter_mut().zip(&weights.0) {
        item["weight"] = json!(backend.weight);
    }
    Ok(json!({"metadata": {"resourceVersion": object.metadata.resource_version}, "spec": {"backends": backends}}))
}
