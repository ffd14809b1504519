//! `outrigger analyze`: what is wrong with these objects, by the very functions that the pilot serves with.

use std::fmt::Write;
use std::path::PathBuf;

use api::{Problem, Severity};
use serde::Serialize;

use crate::mesh::{self, Domains};
use crate::source::Observed;
use crate::source::diagnostics::{Colour, Entry, entries, render};
use crate::source::files::{self, FilesError};

/// All objects and all that is wrong with them.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Every object, and every one that could not be read.
    pub objects: Vec<Entry>,
    /// The same problems in the order of their places.
    #[serde(skip)]
    pub problems: Vec<Problem>,
}

/// Analyzes the manifests at these paths: folders or files, as the pilot's `--manifests`.
///
/// # Errors
/// When a path does not exist or cannot be listed.
pub fn manifests(paths: &[PathBuf]) -> Result<Report, FilesError> {
    files::read_once(paths).map(|observed| report(&observed))
}

/// Analyzes what a source has observed.
#[must_use]
pub fn report(observed: &Observed) -> Report {
    let objects = &observed.objects;
    let mut problems = observed.problems.clone();
    let (mesh, more) = mesh::build(objects, &Domains::default());
    problems.extend(more);
    let mut hints = smi_adapter::translate::reading_hints(objects, mesh.settings.path_regex);
    hints.iter_mut().for_each(|hint| objects.locate(hint));
    problems.extend(hints);
    problems.sort_by(|a, b| (&a.place, &a.object, a.severity()).cmp(&(&b.place, &b.object, b.severity())));
    Report { objects: entries(objects, &problems), problems }
}

impl Report {
    /// How many problems there are of a severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity() == severity).count()
    }

    /// 1 if any problem is an error, else 0.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(self.count(Severity::Error) > 0)
    }

    /// For people: every problem with its place, and a last line that sums up.
    #[must_use]
    pub fn text(&self, colour: Colour) -> String {
        let mut out = String::new();
        for problem in &self.problems {
            let _ = writeln!(out, "{}", render(problem, colour));
        }
        let objects = plural(self.objects.len(), "object");
        let parts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Note]
            .into_iter()
            .filter(|severity| self.count(*severity) > 0)
            .map(|severity| plural(self.count(severity), severity.as_str()))
            .collect();
        let summary = if parts.is_empty() { "no problems".to_owned() } else { parts.join(", ") };
        let _ = writeln!(out, "{summary} in {objects}");
        out
    }
}

fn plural(n: usize, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reasons, places and exit code that one manifest gives.
    fn check(manifest: &str, expected: &[&str], exit: u8) {
        let (objects, problems) = api::manifest::objects("a.yaml", manifest);
        let report = report(&Observed { objects, problems, ..Observed::default() });
        let place = |p: &Problem| p.place.as_ref().map(|p| format!("{}:{}", p.line, p.column)).unwrap_or_default();
        let got: Vec<String> =
            report.problems.iter().map(|p| format!("{} {} {}", p.reason, p.object, place(p))).collect();
        assert_eq!(got, expected);
        assert_eq!(report.exit_code(), exit);
    }

    #[test]
    fn errors_and_warnings() {
        check("", &[], 0);
        let broken =
            "apiVersion: v1\nkind: Service\nmetadata: {name: broken, namespace: shop}\nspec:\n  ports: [{port: 80\n";
        check(broken, &["Syntax Service shop/broken 5:11"], 1);
        let services = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n---\n";
        let split = "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {name: s}\nspec: {service: a, backends: [{service: a, weight: 1}]}\n";
        check(&format!("{services}{split}"), &["SelfReference TrafficSplit default/s 9:41"], 0);
        check(split, &["MissingReference TrafficSplit default/s 4:17"], 1);
    }
}
