//! Every folder of `testdata/routing` is a case: `in.yaml` holds objects, `out.yaml` what becomes of calls to their Services.
//! `UPDATE_GOLDEN=1` rewrites the latter.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde::Serialize;

#[derive(Serialize)]
struct Meaning {
    routings: Vec<api::routing::PortRouting>,
    problems: Vec<String>,
}

fn meaning(text: &str) -> String {
    let (objects, mut problems) = api::manifest::objects("in.yaml", text);
    let (routings, more) = pilot::mesh::routing::build(&objects, api::mesh_config::PathRegex::Full);
    problems.extend(more);
    for problem in &mut problems {
        objects.locate(problem);
    }
    let problems = problems.iter().map(ToString::to_string).collect();
    serde_saphyr::to_string(&Meaning { routings, problems }).unwrap()
}

#[test]
fn golden() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/routing");
    let mut cases: Vec<_> = root.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    let mut wrong = Vec::new();
    for case in cases {
        let got = meaning(&std::fs::read_to_string(case.join("in.yaml")).unwrap());
        let out = case.join("out.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&out, &got).unwrap();
        } else if std::fs::read_to_string(&out).unwrap_or_default() != got {
            wrong.push(format!("{}:\n{got}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "not as expected (UPDATE_GOLDEN=1 rewrites):\n{}", wrong.join("\n"));
}
