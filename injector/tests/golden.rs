//! Every folder of `testdata` is a case: `in.yaml` is a file of workloads, `out.yaml` the same with sidecars. `UPDATE_GOLDEN=1`
//! rewrites the latter; `settings.json` says what the installation says, where that matters. Each is injected once and twice, and taken back.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use injector::Settings;
use injector::manifests::{Change, change};
use serde_json::Value;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut cases: Vec<_> = root.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 30);
    cases
}

#[test]
fn golden() {
    let mut wrong = Vec::new();
    for case in cases() {
        let text = std::fs::read_to_string(case.join("in.yaml")).unwrap();
        let settings = std::fs::read_to_string(case.join("settings.json"));
        let settings: Settings =
            settings.map_or_else(|_| Settings::default(), |text| serde_json::from_str(&text).unwrap());
        let got = change(&text, Change::Inject, &settings).unwrap();
        let out = case.join("out.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&out, &got).unwrap();
        } else if std::fs::read_to_string(&out).unwrap_or_default() != got {
            wrong.push(case.display().to_string());
        }
        assert_eq!(change(&got, Change::Inject, &settings).unwrap(), got, "{}: twice is as once", case.display());
        let back = change(&got, Change::Uninject, &settings).unwrap();
        let read = |text: &str| serde_saphyr::from_str::<Value>(text).unwrap();
        assert_eq!(read(&back), read(&text), "{}: taken back, it is as it was", case.display());
    }
    assert!(wrong.is_empty(), "not as expected (UPDATE_GOLDEN=1 rewrites, git diff shows): {wrong:?}");
}
