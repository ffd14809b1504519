//! The status of Gateway API's routes: what their parents, which are Services, make of them. Source: Gateway API `RouteParentStatus`.

use api::{Problem, Reason};
use serde_json::{Value, json};

/// Who writes it.
const CONTROLLER: &str = "outrigger.dev/pilot";

/// A route's own parents, each with conditions, which are made from those before; parents of other controllers stay.
pub(super) fn of(route: &Value, conditions: impl Fn(&Value) -> Value) -> Value {
    let before = route["status"]["parents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (ours, others): (Vec<&Value>, Vec<&Value>) =
        before.iter().partition(|parent| parent["controllerName"] == CONTROLLER);
    let mut parents: Vec<Value> = others.into_iter().cloned().collect();
    for parent in route["spec"]["parentRefs"].as_array().into_iter().flatten() {
        if parent["kind"] == "Service" {
            let known = ours.iter().find(|known| known["parentRef"] == *parent);
            let conditions = conditions(known.map_or(&Value::Null, |known| &known["conditions"]));
            parents.push(json!({"parentRef": parent, "controllerName": CONTROLLER, "conditions": conditions}));
        }
    }
    Value::Array(parents)
}

/// The reason of condition `ResolvedRefs` when what is wrong is a reference to a backend; the route holds all the same.
pub(super) fn lost(problem: &Problem) -> Option<&'static str> {
    let field = problem.field.to_string();
    let reference = problem.reason == Reason::MissingReference && field.contains("backendRef");
    reference.then(|| match field.rsplit('.').next() {
        Some("kind") => "InvalidKind",
        Some("namespace") => "RefNotPermitted",
        _ => "BackendNotFound",
    })
}

#[cfg(test)]
mod tests {
    use api::{FieldPath, ObjectRef};

    use super::*;

    #[test]
    fn references() {
        let object = ObjectRef { kind: "HTTPRoute".to_owned(), namespace: "shop".to_owned(), name: "web".to_owned() };
        let backend = |key| FieldPath::spec().key("rules").index(0).key("backendRefs").index(1).key(key);
        let cases = [
            (Reason::MissingReference, backend("name"), Some("BackendNotFound")),
            (Reason::MissingReference, backend("port"), Some("BackendNotFound")),
            (Reason::MissingReference, backend("kind"), Some("InvalidKind")),
            (Reason::MissingReference, backend("namespace"), Some("RefNotPermitted")),
            (Reason::MissingReference, FieldPath::spec().key("parentRefs").index(0).key("name"), None),
            (Reason::BadRegex, backend("filters"), None),
        ];
        for (reason, field, expected) in cases {
            let problem = Problem::new(reason, object.clone(), String::new()).at(field.clone());
            assert_eq!(lost(&problem), expected, "{field}");
        }
    }

    #[test]
    fn others_stay() {
        let theirs = json!({"controllerName": "a/b", "parentRef": {"kind": "Gateway", "name": "g"}});
        let service = json!({"kind": "Service", "name": "web"});
        let before = json!({"controllerName": CONTROLLER, "parentRef": service, "conditions": [7]});
        let route = json!({
            "spec": {"parentRefs": [service, {"kind": "Gateway", "name": "g"}]},
            "status": {"parents": [before, theirs]},
        });
        let got = of(&route, Value::clone);
        assert_eq!(got, json!([theirs, before]));
    }
}
