//! The chart `outrigger-crds` holds the schemas that the types make. `UPDATE_GOLDEN=1` rewrites them, and nothing else of it.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use api::{Kind, schema};
use serde_json::Value;

#[test]
fn the_chart_says_what_the_types_say() {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/charts/outrigger-crds/templates");
    for name in ["mesh.yaml", "smi.yaml"] {
        let file = templates.join(name);
        let before = std::fs::read_to_string(&file).unwrap();
        let wanted = with_schemas(&before);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, wanted).unwrap();
        } else {
            assert!(before == wanted, "{name} is not what the types say (UPDATE_GOLDEN=1 rewrites it)");
        }
    }
}

/// A template with what stands below each `schema:` made anew.
fn with_schemas(template: &str) -> String {
    let (mut group, mut kind, mut version) = ("", "", "");
    let mut made = String::new();
    let mut lines = template.lines().peekable();
    while let Some(line) = lines.next() {
        made += &format!("{line}\n");
        group = line.strip_prefix("  group: ").unwrap_or(group);
        kind = line.strip_prefix("  names: {kind: ").and_then(|rest| rest.split(',').next()).unwrap_or(kind);
        version = line.strip_prefix("  - name: ").unwrap_or(version);
        if line == "    schema:" {
            while lines.next_if(|line| line.is_empty() || line.starts_with("      ")).is_some() {}
            made += &below_schema(group, kind, version);
        }
    }
    made
}

fn below_schema(group: &str, kind: &str, version: &str) -> String {
    let kind = Kind::named(kind).find(|kind| kind.group() == group).unwrap();
    let schema = serde_json::json!({"openAPIV3Schema": schema::of(kind, version).unwrap()});
    let text = serde_saphyr::to_string(&schema).unwrap();
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("      {line}\n") }).collect()
}

#[test]
fn every_field_is_explained_in_users_words() {
    let mut seen = 0;
    for (kind, version) in Kind::ALL.iter().flat_map(|kind| kind.versions().iter().map(move |version| (kind, version)))
    {
        let ours = kind.group().ends_with("outrigger.dev") || kind.group().ends_with("smi-spec.io");
        let schema = schema::of(*kind, version);
        assert_eq!(schema.is_some(), ours, "{kind:?} {version}");
        seen += schema.map_or(0, |schema| explained(&format!("{kind:?} {version}"), &schema));
    }
    assert!(seen > 200, "{seen}");
}

fn explained(path: &str, schema: &Value) -> usize {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let fields = fields.filter(|(name, _)| *name != "metadata").map(|(name, field)| {
        let path = format!("{path}.{name}");
        let about = field["description"].as_str().unwrap_or_default();
        let raw = ["::", "[`", "Source:"].into_iter().any(|sign| about.contains(sign));
        assert!(!about.is_empty() && !raw, "{path}: {about}");
        1 + explained(&path, field)
    });
    let items = schema.get("items").map_or(0, |items| explained(&format!("{path}[]"), items));
    fields.sum::<usize>() + items
}
