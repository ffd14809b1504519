//! A mesh on this machine's loopback addresses: pilot, and a sidecar and an application for each Workload of some manifests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::Workload;
use pilot::source::files;

use crate::process::{Folder, Running, output, program, until};

/// The pilot's addresses: no example uses them.
const XDS: &str = "127.0.20.2:15010";
const SECURE: &str = "127.0.20.2:15012";
const MONITORING: &str = "127.0.20.2:15014";
const WEBHOOK: &str = "127.0.20.2:15017";

/// Only one can be at these addresses.
static ALONE: Mutex<()> = Mutex::new(());

/// A running mesh.
#[derive(Debug)]
pub struct LocalMesh {
    /// By Workload.
    pub apps: BTreeMap<String, Running>,
    /// By Workload.
    pub sidecars: BTreeMap<String, Running>,
    /// The pilot.
    pub pilot: Running,
    /// Copies of the manifests, to be changed.
    pub manifests: PathBuf,
    folder: Folder,
    /// Last, so that all of it has ended when the next begins.
    _alone: MutexGuard<'static, ()>,
}

impl LocalMesh {
    /// Starts all that the manifests of a folder name.
    ///
    /// # Panics
    /// When something does not become ready.
    #[must_use]
    pub fn start(examples: &Path, name: &str) -> Self {
        // A test that failed has ended what it began.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = Folder::new(name);
        let manifests = folder.join("manifests");
        std::fs::create_dir_all(&manifests).unwrap();
        for entry in examples.join(name).read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            if entry.extension().is_some_and(|extension| extension == "yaml") {
                std::fs::copy(&entry, manifests.join(entry.file_name().unwrap())).unwrap();
            }
        }
        let observed = files::read_once(std::slice::from_ref(&manifests)).unwrap();
        let pilot = start_pilot(&folder);
        let mut mesh =
            Self { apps: BTreeMap::new(), sidecars: BTreeMap::new(), pilot, manifests, folder, _alone: alone };
        for workload in observed.objects.workloads.values() {
            mesh.workload(workload);
        }
        for workload in observed.objects.workloads.values() {
            let ready = format!("http://{}:15021/healthz/ready", workload.spec.address.unwrap());
            until(&workload.metadata.name, || curl(&[&ready]));
        }
        mesh
    }

    fn workload(&mut self, workload: &Workload) {
        let name = &workload.metadata.name;
        for port in &workload.spec.ports {
            let mut app = Command::new(program("outrigger"));
            app.args(["demo-app", name, "--listen", &port.app().to_string()]);
            app.args(port.name.starts_with("tcp").then_some("--tcp"));
            self.apps.insert(name.clone(), Running::start(&mut app, &self.folder.join(&format!("{name}-app.log"))));
        }
        let bootstrap = until(name, || self.bootstrap(workload));
        let file = self.folder.join(&format!("{name}.yaml"));
        std::fs::write(&file, bootstrap).unwrap();
        let mut sidecar = Command::new(program("sidecar"));
        sidecar.arg("-c").arg(&file).args(["--concurrency", "1"]);
        self.sidecars.insert(name.clone(), Running::start(&mut sidecar, &self.folder.join(&format!("{name}.log"))));
    }

    /// The pilot's plain address.
    #[must_use]
    pub const fn xds(&self) -> &'static str {
        XDS
    }

    /// The pilot's monitoring address.
    #[must_use]
    pub const fn monitoring(&self) -> &'static str {
        MONITORING
    }

    /// A file or folder for a test's own use.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A file with a join token.
    ///
    /// # Errors
    /// What `outrigger` says.
    pub fn token(&self, namespace: &str, account: &str) -> Result<PathBuf, String> {
        let mut create = Command::new(program("outrigger"));
        create.args(["token", "create", "-n", namespace, "--service-account", account]);
        let file = self.folder.join(&format!("{account}.token"));
        std::fs::write(&file, output(create.arg("--state").arg(self.folder.join("state")))?).unwrap();
        Ok(file)
    }

    fn bootstrap(&self, workload: &Workload) -> Result<String, String> {
        let (name, namespace) = (&workload.metadata.name, &workload.metadata.namespace);
        let file = self.token(namespace, workload.spec.service_account())?;
        output(
            Command::new(program("outrigger"))
                .args(["bootstrap", name, "-n", namespace, "--pilot", XDS])
                .arg("--token")
                .arg(&file),
        )
    }

    /// Starts the pilot again.
    pub fn restart_pilot(&mut self) {
        self.pilot = start_pilot(&self.folder);
    }

    /// Changes a text in one of the manifests, at once.
    pub fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.manifests.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no `{from}`");
        let draft = self.folder.join("draft");
        std::fs::write(&draft, text.replace(from, to)).unwrap();
        std::fs::rename(&draft, &path).unwrap();
    }
}

fn start_pilot(folder: &Folder) -> Running {
    let mut pilot = Command::new(program("pilot"));
    pilot.arg("--manifests").arg(folder.join("manifests")).arg("--state").arg(folder.join("state"));
    pilot.args(["--xds", XDS, "--secure-xds", SECURE, "--monitoring", MONITORING, "--webhook", WEBHOOK]);
    let running = Running::start(&mut pilot, &folder.join("pilot.log"));
    until("the pilot", || curl(&[&format!("http://{MONITORING}/ready")]));
    running
}

/// What a plain client gets.
///
/// # Errors
/// When it gets nothing, or an error status.
pub fn curl(args: &[&str]) -> Result<String, String> {
    output(Command::new("curl").args(["--silent", "--show-error", "--fail", "--max-time", "5"]).args(args))
}
