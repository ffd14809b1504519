//! All manifests together: which object wins, and what goes on serving while its manifest cannot be read. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::manifest::{Lost, Manifest, read, unreadable};
use api::{Key, Kind, Object, Objects, Origin, Problem, Reason};

use super::Observed;

/// The state of every file, in the order in which they win.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    files: BTreeMap<PathBuf, File>,
}

#[derive(Clone, Debug, Default)]
struct File {
    manifest: Manifest,
    /// Last good versions of what the manifest no longer lets read.
    kept: Vec<(Object, Origin)>,
}

impl Folder {
    /// Takes a file's new text, or why it has none.
    pub(super) fn update(&mut self, path: &Path, text: Result<String, String>) {
        let file: Arc<str> = path.display().to_string().into();
        let manifest = match text {
            Ok(text) => read(&file, &text.into()),
            Err(why) => unreadable(&file, &why),
        };
        let before = self.files.remove(path).unwrap_or_default();
        let held = |kind: Kind, key: &Key| manifest.objects.iter().any(|(o, _)| o.kind() == kind && o.key() == *key);
        let kept = before.manifest.objects.into_iter().chain(before.kept).filter(|(object, _)| match &manifest.lost {
            Lost::Nothing => false,
            Lost::Objects(lost) => lost.contains(&(object.kind(), object.key())),
            Lost::Unknown => !held(object.kind(), &object.key()),
        });
        let kept = kept.collect();
        self.files.insert(path.to_owned(), File { manifest, kept });
    }

    /// Forgets a file that is gone, and all that was in it.
    pub(super) fn remove(&mut self, path: &Path) {
        self.files.remove(path);
    }

    /// The files there are.
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.keys()
    }

    /// All objects and problems. Of two with one name, the one in the first file wins; what is only kept loses to all.
    pub(super) fn observed(&self) -> Observed {
        let mut objects = Objects::default();
        let mut problems = Vec::new();
        for file in self.files.values() {
            problems.extend(file.manifest.problems.iter().cloned());
            for (object, origin) in &file.manifest.objects {
                let (kind, key) = (object.kind(), object.key());
                match objects.origin(kind, &key) {
                    Some(first) => problems.push(duplicate(object, origin, first)),
                    None => drop(objects.insert(object.clone(), origin.clone())),
                }
            }
        }
        for (object, origin) in self.files.values().flat_map(|file| &file.kept) {
            if objects.origin(object.kind(), &object.key()).is_none() {
                objects.insert(object.clone(), origin.clone());
            }
        }
        Observed { objects, problems, ..Observed::default() }
    }
}

fn duplicate(object: &Object, origin: &Origin, first: &Origin) -> Problem {
    let root = api::FieldPath::root();
    let winner = first.place(&root).map(|p| format!("{}:{}", p.file, p.line)).unwrap_or_default();
    let message = format!("a second {}: the one at {winner} holds", object.reference());
    let mut problem = Problem::new(Reason::Duplicate, object.reference(), message)
        .help("give one of them another name, or delete it");
    problem.place = origin.place(&root);
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str =
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec: {ports: [{port: 80}]}\n";
    const B: &str =
        "apiVersion: v1\nkind: Service\nmetadata: {name: b, namespace: shop}\nspec: {ports: [{port: 81}]}\n";

    fn folder(steps: &[(&str, Option<&str>)]) -> (String, Vec<String>) {
        let mut folder = Folder::default();
        for (path, text) in steps {
            match text {
                Some(text) => folder.update(Path::new(path), Ok((*text).to_owned())),
                None => folder.remove(Path::new(path)),
            }
        }
        let observed = folder.observed();
        let services = observed.objects.services.iter();
        let services: Vec<String> = services.map(|(key, s)| format!("{}:{}", key.name, s.spec.ports[0].port)).collect();
        (services.join(" "), observed.problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_last_good_version_serves_until_mended_or_deleted() {
        let both = format!("{A}---\n{B}");
        let a_broken = format!("{}---\n{B}", A.replace("{port: 80}", "{port: x}"));
        let a_cut = format!("{}---\n{}", A.replace("}]}", ""), B.replace("81", "82"));
        let (services, problems) = folder(&[("f", Some(&both)), ("f", Some(&a_broken))]);
        assert_eq!(services, "a:80 b:81");
        assert!(problems[0].contains("f:4:23: error[WrongType]: Service shop/a: `spec.ports[0].port`"), "{problems:?}");
        assert_eq!(folder(&[("f", Some(&both)), ("f", Some(&a_cut))]).0, "a:80 b:82");
        assert_eq!(folder(&[("f", Some(&both)), ("f", Some(&a_cut)), ("f", Some(&a_broken))]).0, "a:80 b:81");
        assert_eq!(folder(&[("f", Some(&both)), ("f", Some(&a_cut)), ("f", Some(B))]), ("b:81".to_owned(), vec![]));
        assert_eq!(folder(&[("f", Some(&both)), ("f", Some(&a_cut)), ("f", None)]).0, "");
        assert_eq!(folder(&[("f", Some(&a_cut))]).0, "b:82");
    }

    #[test]
    fn of_two_the_first_file_holds() {
        let other = A.replace("80", "90");
        let (services, problems) = folder(&[("y", Some(&other)), ("x", Some(A))]);
        assert_eq!(services, "a:80");
        assert_eq!(
            problems,
            ["y:1:1: error[Duplicate]: Service shop/a: a second Service shop/a: the one at x:1 holds"]
        );
        assert_eq!(folder(&[("y", Some(&other)), ("x", Some(A)), ("x", Some("a: ["))]).0, "a:90");
    }
}
