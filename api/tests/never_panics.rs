//! Whatever stands in a manifest, reading it ends, and every problem that is told has a place within the text.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

const MANIFEST: &str = r#"apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: web, namespace: shop, labels: {"a": b}}
spec:
  service: web
  backends:
  - {service: web-v1, weight: 90}
  - service: &x web-v2
    weight: 10
  matches: [{kind: HTTPRouteGroup, name: *x}]
--- # next
{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}]}
---
apiVersion: mesh.outrigger.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: p, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  targetRef: {kind: Service, name: web}
  timeout: {request: 1m30s}
  retry: {attempts: 3, on: [5xx, 503], budget: {percent: 20}}
  loadBalancer: {policy: maglev, hashOn: {cookie: {name: u, ttl: 1h}}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: g}
spec: {matches: [{name: m, pathRegex: "/a(b|c)[^x]*", headers: [{x-user: "^a"}]}]}
"#;

fn check(text: &str) -> Result<(), TestCaseError> {
    let (objects, problems) = api::manifest::objects("a.yaml", text);
    let lines = u32::try_from(text.split('\n').count()).unwrap();
    for problem in &problems {
        let place = problem.place.as_ref().unwrap();
        prop_assert!((1..=lines).contains(&place.line) && place.column >= 1, "{}", problem);
        prop_assert!(!problem.message.contains('\n'), "{}", problem);
    }
    for kind in api::Kind::ALL {
        for key in objects.keys(*kind) {
            prop_assert!(serde_json::to_string(&objects.get(*kind, key).unwrap()).is_ok());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "\\PC*") {
        check(&text)?;
    }

    #[test]
    fn any_yaml_like_text(text in "[a-z0-9:{}\\[\\]&*!|>'\"#%@,?.\\- \n\t]{0,200}") {
        check(&text)?;
    }

    #[test]
    fn a_manifest_with_a_part_replaced(from in 0..MANIFEST.len(), len in 0_usize..40, with in "[ \\-:{}\\[\\]\"\n&*a-z0-9]{0,12}") {
        let to = (from + len).min(MANIFEST.len());
        check(&format!("{}{with}{}", &MANIFEST[..from], &MANIFEST[to..]))?;
    }

    #[test]
    fn durations_come_back(nanos in 0_u64..i64::MAX as u64) {
        let duration = api::GoDuration(std::time::Duration::from_nanos(nanos));
        prop_assert_eq!(duration.to_string().parse::<api::GoDuration>().unwrap(), duration);
    }

    #[test]
    fn what_is_written_reads_back(weight in any::<u64>(), name in "[a-z]([a-z0-9-]{0,10}[a-z0-9])?") {
        let text = format!("apiVersion: split.smi-spec.io/v1alpha2\nkind: TrafficSplit\nmetadata: {{name: {name:?}}}\nspec: {{service: {name:?}, backends: [{{service: a, weight: {weight}}}]}}\n");
        let (objects, problems) = api::manifest::objects("a.yaml", &text);
        prop_assert!(problems.is_empty(), "{:?}", problems);
        let key = api::Key::new("default", name);
        let written = serde_json::to_string(&objects.get(api::Kind::TrafficSplit, &key).unwrap()).unwrap();
        let (again, problems) = api::manifest::objects("a.json", &written);
        prop_assert!(problems.is_empty(), "{:?}", problems);
        prop_assert_eq!(objects, again);
    }
}

#[test]
fn the_manifest_is_good() {
    let (_, problems) = api::manifest::objects("a.yaml", MANIFEST);
    assert!(problems.is_empty(), "{problems:?}");
}
