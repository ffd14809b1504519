//! Small meshes, and what is to be read off them.

use super::*;

fn mesh(text: &str) -> (MeshSnapshot, Vec<String>) {
    let (objects, problems) = api::manifest::objects("in.yaml", text);
    assert!(problems.is_empty(), "{problems:?}");
    let (mesh, problems) = build(&objects, &Domains::default());
    (mesh, problems.iter().map(ToString::to_string).collect())
}

/// `SERVICE:PORT ADDRESS:PORT=WORKLOAD …` for every port.
fn endpoints(text: &str) -> Vec<String> {
    let line = |((service, port), found): (&PortKey, &Arc<Vec<Endpoint>>)| {
        let one = |e: &Endpoint| {
            let name = e.workload.as_ref().map_or("-", |key| key.name.as_str());
            format!(" {}:{}={name}", e.address, e.port)
        };
        format!("{}:{port}{}", service.name, found.iter().map(one).collect::<String>())
    };
    mesh(text).0.endpoints.iter().map(line).collect()
}

const WORKLOADS: &str = r#"
apiVersion: mesh.outrigger.dev/v1alpha1
kind: Workload
metadata: {name: web-1, namespace: shop, labels: {app: web, version: v1}}
spec: {address: 127.0.10.11, serviceAccount: web, ports: [{name: http, port: 8080, appPort: 18080}, {name: admin, port: 9000}]}
---
apiVersion: mesh.outrigger.dev/v1alpha1
kind: Workload
metadata: {name: web-2, namespace: shop, labels: {app: web, version: v2}}
spec: {address: 127.0.10.12, ports: [{name: http, port: 8081}]}
---
"#;

#[test]
fn selectors_ports_and_slices() {
    let services = r#"
apiVersion: v1
kind: Service
metadata: {name: named, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: numbered, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}, {name: admin, port: 9000}, {name: dns, port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: ops}
spec: {selector: {app: web}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: by-hand, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand-1, namespace: shop, labels: {kubernetes.io/service-name: by-hand}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: other, port: 1}]
endpoints:
- {addresses: [127.0.10.11]}
- {addresses: [127.0.99.1], conditions: {ready: true}}
- {addresses: [127.0.99.2], conditions: {ready: false}}
"#;
    assert_eq!(
        endpoints(&format!("{WORKLOADS}{services}")),
        [
            "elsewhere:8080",
            "by-hand:80 127.0.10.11:8080=web-1 127.0.99.1:8080=-",
            "named:80 127.0.10.11:8080=web-1 127.0.10.12:8081=web-2",
            "numbered:80 127.0.10.11:8080=web-1",
            "numbered:9000 127.0.10.11:9000=web-1",
        ]
    );
}

#[test]
fn policies_with_defaults() {
    let text = r#"
apiVersion: mesh.outrigger.dev/v1alpha1
kind: MeshConfig
metadata: {name: default}
spec: {defaults: {timeout: {request: 9s}, retry: {attempts: 1, on: [5xx]}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: plain}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: reads}
spec: {matches: [{name: get, methods: [GET]}]}
---
apiVersion: mesh.outrigger.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: a}
spec:
  targetRef: {kind: Service, name: web}
  timeout: {request: 0s, connect: 1s}
  matches: [{kind: HTTPRouteGroup, name: reads}]
  mirror: {service: nowhere}
---
apiVersion: mesh.outrigger.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: b}
spec: {targetRef: {kind: Service, name: web}}
---
apiVersion: mesh.outrigger.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: c}
spec: {targetRef: {kind: Service, name: gone}}
"#;
    let (mesh, problems) = mesh(text);
    let policy = |name| &mesh.services[&Key::new("default", name)].policy;
    let nine = Some(api::GoDuration::from_secs(9));
    assert_eq!((policy("plain").calls.timeout, policy("plain").calls.retry.attempts), (nine, 1));
    let web = policy("web");
    assert_eq!((web.calls.timeout, web.connect_timeout), (nine, Some(api::GoDuration::from_secs(1))));
    let matched = web.matched.as_ref().unwrap();
    assert_eq!((matched.matches.len(), matched.calls.timeout, matched.calls.retry.attempts), (1, None, 1));
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(problems[0].contains("in.yaml:29:21: error[MissingReference]: TrafficPolicy default/a: service `nowhere`"));
    assert!(problems[1].contains("warning[Conflict]: TrafficPolicy default/b: service `web` has the older"));
    assert!(problems[2].contains("error[MissingReference]: TrafficPolicy default/c: service `gone` does not exist"));
}

#[test]
fn outbound_addresses() {
    let text = r#"
apiVersion: v1
kind: Service
metadata: {name: db, namespace: data}
spec: {ports: [{name: tcp, port: 5432}]}
---
apiVersion: mesh.outrigger.dev/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop}
spec:
  address: 127.0.10.11
  outbound:
    tcp:
    - {service: db.data, port: 5432, bind: "127.0.10.11:15432"}
    - {service: db, port: 5432, bind: "127.0.10.11:15433"}
    - {service: db.data.svc.cluster.local, port: 1, bind: "127.0.10.11:15001"}
"#;
    let (mesh, problems) = mesh(text);
    let outbound = mesh.workloads[&Key::new("shop", "web")].outbound.clone().unwrap();
    assert_eq!(outbound.http.to_string(), "127.0.10.11:15001");
    assert_eq!(outbound.tcp[0].service, Key::new("data", "db"));
    let expected =
        ["127.0.10.11:15001 is Workload shop/web's already", "service `shop/db` does not exist", "has no port 1"];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, part) in problems.iter().zip(expected) {
        assert!(problem.contains(part), "{problem}");
    }
}

#[test]
fn default_ports() {
    let cases = [
        ("[{name: http, port: 80}, {name: http-b, port: 81}]", Some(80)),
        ("[{name: http, port: 9080}]", Some(9080)),
        ("[{name: http, port: 9080}, {name: tcp, port: 90}]", Some(9080)),
        ("[{name: http, port: 9080}, {name: grpc, port: 90}]", None),
        ("[{name: tcp, port: 80}]", None),
    ];
    for (ports, expected) in cases {
        let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{ports: {ports}}}\n");
        let (mesh, _) = mesh(&text);
        let service = mesh.service_named("web", "default").unwrap();
        assert_eq!(service.default_port().map(|port| port.port), expected, "{ports}");
    }
}
