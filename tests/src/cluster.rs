//! A real Kubernetes for one test: its API tier, or a whole node.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process::{Folder, output, program, until};

/// How much of a cluster there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// API server, etcd and controllers.
    Api,
    /// With a node, on which pods run.
    Node,
}

/// A cluster that ends with the test.
#[derive(Debug)]
pub struct Cluster {
    vars: BTreeMap<String, String>,
    /// Where a test may put files.
    pub folder: Folder,
}

fn script(name: &str) -> Command {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes");
    let mut command = Command::new("bash");
    command.arg(scripts.join(name));
    command
}

impl Cluster {
    /// Starts one.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn up(tier: Tier) -> Self {
        let folder = Folder::new(&format!("cluster-{tier:?}").to_lowercase());
        let mut up = script("up");
        up.args((tier == Tier::Node).then_some("--node"));
        up.args(["--with", &std::process::id().to_string()]).arg(folder.join("work"));
        let said = output(&mut up).unwrap();
        let vars = said.lines().filter_map(|line| line.split_once('='));
        let vars = vars.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect();
        Self { vars, folder }
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("work/kubeconfig")
    }

    /// A program with this cluster as its own.
    #[must_use]
    pub fn run(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(&self.vars).env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Where a program that came with the cluster is.
    #[must_use]
    pub fn tool(&self, name: &str) -> PathBuf {
        let kubectl = self.vars.get("KUBECTL").map(PathBuf::from);
        kubectl.map_or_else(|| name.into(), |kubectl| kubectl.with_file_name(name))
    }

    /// What kubectl says.
    ///
    /// # Errors
    /// What it says when it fails.
    pub fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        output(self.run(self.tool("kubectl")).args(args))
    }

    /// Waits until kubectl says a part of a text, and gives all that it says then.
    ///
    /// # Panics
    /// When it does not.
    pub fn shows(&self, args: &[&str], part: &str) -> String {
        until(part, || match self.kubectl(args) {
            Ok(said) if said.contains(part) => Ok(said),
            other => Err(format!("{other:?}")),
        })
    }

    /// Applies objects.
    ///
    /// # Errors
    /// What kubectl says.
    pub fn apply(&self, objects: &str) -> Result<String, String> {
        self.feed(&["apply", "-f", "-"], objects)
    }

    /// What kubectl says of objects.
    ///
    /// # Errors
    /// What it says when it fails.
    pub fn feed(&self, args: &[&str], objects: &str) -> Result<String, String> {
        let mut command = self.run(self.tool("kubectl"));
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        child.stdin.take().unwrap().write_all(objects.as_bytes()).map_err(|error| error.to_string())?;
        let done = child.wait_with_output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        match done.status.success() {
            true => Ok(said),
            false => Err(format!("{said}{}", String::from_utf8_lossy(&done.stderr))),
        }
    }

    /// What `outrigger` says.
    ///
    /// # Errors
    /// What it says when it fails.
    pub fn outrigger(&self, args: &[&str]) -> Result<String, String> {
        output(self.run(program("outrigger")).args(args))
    }

    /// A command within the node.
    #[must_use]
    pub fn enter(&self) -> Command {
        let mut command = script("enter");
        command.arg(self.folder.join("work"));
        command
    }

    /// Makes images of our programs and brings them to the node.
    ///
    /// # Errors
    /// What the scripts say.
    pub fn load_images(&self) -> Result<(), String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let bin = program("outrigger");
        let images = self.folder.join("images");
        let mut build = Command::new("bash");
        build.arg(root.join("deploy/images/build")).arg(&images).arg("--bin").arg(bin.parent().unwrap());
        output(&mut build)?;
        for name in ["outrigger.tar", "outrigger-init.tar"] {
            output(self.enter().args(["ctr", "-n", "k8s.io", "images", "import"]).arg(images.join(name)))?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = output(script("down").arg(self.folder.join("work")));
    }
}
