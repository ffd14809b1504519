//! The two charts, as Helm reads them, rendered without Helm: what `render` prints is what `helm template` prints.

use anyhow::Context;
use gtmpl::{FuncError, Template};
use gtmpl_value::Value as Cell;
use serde_json::{Value, json};

/// The chart's values with what they mean.
pub(super) const VALUES: &str = include_str!("../../../deploy/charts/outrigger/values.yaml");
/// What values may be.
pub(super) const SCHEMA: &str = include_str!("../../../deploy/charts/outrigger/values.schema.json");

/// In the order in which they are applied: what others need comes first, what calls the pilot last.
const CRDS: [&str; 2] = [
    include_str!("../../../deploy/charts/outrigger-crds/templates/mesh.yaml"),
    include_str!("../../../deploy/charts/outrigger-crds/templates/smi.yaml"),
];
const CHART: [&str; 6] = [
    include_str!("../../../deploy/charts/outrigger/templates/rbac.yaml"),
    include_str!("../../../deploy/charts/outrigger/templates/injector.yaml"),
    include_str!("../../../deploy/charts/outrigger/templates/mesh.yaml"),
    include_str!("../../../deploy/charts/outrigger/templates/pilot.yaml"),
    include_str!("../../../deploy/charts/outrigger/templates/metrics.yaml"),
    include_str!("../../../deploy/charts/outrigger/templates/webhooks.yaml"),
];

/// All objects, the namespace first.
pub(super) fn objects(values: &Value, namespace: &str) -> anyhow::Result<Vec<Value>> {
    let crds = json!({"Values": {"namespace": namespace, "webhook": values["webhook"]}});
    let chart = json!({"Values": values, "Release": {"Namespace": namespace, "Name": "outrigger"}});
    let labels = json!({"app.kubernetes.io/part-of": "outrigger"});
    let mut objects =
        vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})];
    for (templates, context) in [(&CRDS[..], &crds), (&CHART[..], &chart)] {
        for template in templates {
            let text = rendered(template, context)?;
            let documents: Vec<Option<Value>> = serde_saphyr::from_multiple(&text).context("a rendered template")?;
            objects.extend(documents.into_iter().flatten());
        }
    }
    Ok(objects)
}

/// Go's templates, with those of Helm's functions that the charts use.
fn rendered(template: &str, context: &Value) -> anyhow::Result<String> {
    let mut program = Template::default();
    program.add_func("quote", quote);
    program.add_func("toJson", to_json);
    program.parse(template).map_err(|error| anyhow::anyhow!("template: {error}"))?;
    program.render(&gtmpl::Context::from(cell(context))).map_err(|error| anyhow::anyhow!("template: {error}"))
}

fn quote(arguments: &[Cell]) -> Result<Cell, FuncError> {
    let text: Vec<String> = arguments.iter().map(|one| Value::from(one.to_string()).to_string()).collect();
    Ok(Cell::from(text.join(" ")))
}

fn to_json(arguments: &[Cell]) -> Result<Cell, FuncError> {
    let one = arguments.first().ok_or(FuncError::AtLeastXArgs("toJson".to_owned(), 1))?;
    Ok(Cell::from(json_of(one).to_string()))
}

fn cell(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Nil,
        Value::Bool(value) => Cell::from(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Cell::from(whole),
            None => Cell::from(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Cell::from(text.clone()),
        Value::Array(items) => Cell::Array(items.iter().map(cell).collect()),
        Value::Object(fields) => Cell::Map(fields.iter().map(|(key, value)| (key.clone(), cell(value))).collect()),
    }
}

fn json_of(cell: &Cell) -> Value {
    match cell {
        Cell::Bool(value) => json!(value),
        Cell::String(text) => json!(text),
        Cell::Number(number) => match number.as_i64() {
            Some(whole) => json!(whole),
            None => json!(number.as_f64()),
        },
        Cell::Array(items) => items.iter().map(json_of).collect(),
        Cell::Map(fields) | Cell::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), json_of(value))).collect())
        }
        Cell::Nil | Cell::NoValue | Cell::Function(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_pilot_and_without() {
        let mut values: Value = serde_saphyr::from_str(VALUES).unwrap();
        let kinds = |values: &Value| -> Vec<String> {
            let objects = objects(values, "mesh").unwrap();
            objects.iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect()
        };
        assert!(kinds(&values).iter().any(|kind| kind == "Deployment"));
        values["pilot"]["external"] = json!(true);
        values["webhook"]["url"] = json!("https://127.0.0.1:9");
        assert!(!kinds(&values).iter().any(|kind| kind == "Deployment" || kind == "PriorityClass"));
        let objects = objects(&values, "mesh").unwrap();
        let webhooks = objects.iter().filter_map(|object| object["webhooks"].as_array()).flatten();
        let urls: Vec<&str> = webhooks.filter_map(|webhook| webhook["clientConfig"]["url"].as_str()).collect();
        assert_eq!(urls, ["https://127.0.0.1:9/inject", "https://127.0.0.1:9/inject", "https://127.0.0.1:9/validate"]);
    }

    /// The base for Kustomize is what `render` prints. `UPDATE_GOLDEN=1` rewrites it.
    #[test]
    fn base() {
        let values: Value = serde_saphyr::from_str(VALUES).unwrap();
        let objects = objects(&values, "outrigger-system").unwrap();
        let text: String =
            objects.iter().map(|one| format!("---\n{}", serde_saphyr::to_string(one).unwrap())).collect();
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kustomize/base/outrigger.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(file, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(file).unwrap_or_default(), text);
    }

    /// Roots of another CA may be read where another CA is named, and no other ConfigMap.
    #[test]
    fn external_ca() {
        let readable = |address: &str, roots: &str| -> Vec<String> {
            let mut values: Value = serde_saphyr::from_str(VALUES).unwrap();
            values["ca"] = json!({"address": address, "audience": "istio-ca", "rootsConfigMap": roots});
            let objects = objects(&values, "mesh").unwrap();
            let role = objects.iter().find(|object| object["kind"] == "Role").unwrap();
            let rules = role["rules"].as_array().unwrap().iter();
            let maps = rules.filter(|rule| rule["resources"][0] == "configmaps");
            maps.map(|rule| rule["resourceNames"][0].as_str().unwrap().to_owned()).collect()
        };
        let (own, csr) = ("outrigger-injector", "cert-manager-istio-csr.cert-manager.svc:443");
        assert_eq!(readable("", ""), [own]);
        assert_eq!(readable(csr, ""), [own, "istio-ca-root-cert"]);
        assert_eq!(readable(csr, "roots"), [own, "roots"]);
        assert_eq!(readable("", "roots"), [own, "roots"]);
    }

    /// What the pilot may do, by group, resource and verb; more is more than it needs.
    #[test]
    fn rights() {
        let values: Value = serde_saphyr::from_str(VALUES).unwrap();
        let mut rights = Vec::new();
        for role in objects(&values, "mesh").unwrap().iter().filter(|object| object["rules"].is_array()) {
            for rule in role["rules"].as_array().unwrap() {
                let texts = |name: &str| -> Vec<String> {
                    rule[name].as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
                };
                for (group, resource, verb) in texts("apiGroups").iter().flat_map(|group| {
                    let (group, texts) = (group.clone(), &texts);
                    texts("resources").into_iter().flat_map(move |resource| {
                        let (group, resource) = (group.clone(), resource);
                        texts("verbs").into_iter().map(move |verb| (group.clone(), resource.clone(), verb))
                    })
                }) {
                    rights.push(format!("{verb} {resource}.{group}"));
                }
            }
        }
        assert!(rights.iter().all(|right| !right.contains('*') && !right.starts_with("delete")), "{rights:?}");
        let writes: Vec<&String> =
            rights.iter().filter(|right| right.starts_with("create") || right.starts_with("update")).collect();
        let allowed = [
            "create tokenreviews.authentication.k8s.io",
            "create events.events.k8s.io",
            "create configmaps.",
            "create secrets.",
            "update secrets.",
            "create leases.coordination.k8s.io",
            "update leases.coordination.k8s.io",
        ];
        assert!(writes.iter().all(|right| allowed.contains(&right.as_str())), "{writes:?}");
    }
}
