//! Every example is a mesh with which nothing is wrong, and every workload of it gets a plan.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use pilot::ir::Families;
use pilot::mesh::{self, Domains};
use pilot::plan::{self, Flavour, ProxyClass};
use pilot::{analyze, generate, source::files};

#[test]
fn examples_are_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let folders = root.read_dir().unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut seen = 0;
    for folder in folders {
        seen += 1;
        assert!(folder.join("README.md").exists(), "{} has no README", folder.display());
        let report = analyze::manifests(std::slice::from_ref(&folder)).unwrap();
        let problems: Vec<String> =
            report.problems.iter().filter(|p| p.severity() != api::Severity::Note).map(ToString::to_string).collect();
        assert!(problems.is_empty(), "{}: {problems:?}", folder.display());
        let observed = files::read_once(std::slice::from_ref(&folder)).unwrap();
        let (mesh, _) = mesh::build(&observed.objects, &Domains::default());
        for workload in mesh.workloads.keys() {
            let class = ProxyClass { workload: workload.clone(), flavour: Flavour::Envoy, families: Families::V4 };
            assert!(!generate::resources(&plan::build(&mesh, &class).unwrap()).is_empty());
        }
    }
    assert!(seen >= 6);
}
