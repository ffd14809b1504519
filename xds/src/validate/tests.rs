//! Messages in, findings out.

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use prost::{Message, Name};

use super::*;
use crate::document::Format;
use crate::json::{UnknownFields, descriptor, parse_dynamic};

fn findings<T: Name>(text: &str) -> Findings {
    let schema = Schema::shared();
    let descriptor = descriptor::<T>(&schema).unwrap();
    let parsed = parse_dynamic(&schema, &descriptor, text, Format::Yaml, UnknownFields::Refuse);
    inspect(&schema, &parsed.unwrap_or_else(|error| panic!("{text}: {error}")).message)
}

fn check<T: Name>(text: &str, expected: &[&str]) {
    let violations: Vec<String> = findings::<T>(text).violations.iter().map(ToString::to_string).collect();
    assert_eq!(violations, expected, "{text}");
}

#[test]
fn rules_of_clusters() {
    check::<Cluster>("{name: a, connect_timeout: 1s}", &[]);
    check::<Cluster>("{connect_timeout: 1s}", &["name: value length must be at least 1 characters"]);
    check::<Cluster>("{name: a, connect_timeout: 0s}", &["connect_timeout: value must be greater than 0s"]);
    check::<Cluster>("{name: a, type: 17}", &["type: value must be one of the defined enum values"]);
    check::<Cluster>(
        "{name: a, outlier_detection: {max_ejection_percent: 101}}",
        &["outlier_detection.max_ejection_percent: value must be less than or equal to 100"],
    );
    check::<Cluster>(
        "{name: a, load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {}}}]}]}}",
        &["load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.address: value is required"],
    );
    check::<Cluster>(
        "{name: a, circuit_breakers: {thresholds: [{priority: 9}]}, health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1}]}",
        &[
            "health_checks[0].health_checker: value is required",
            "circuit_breakers.thresholds[0].priority: value must be one of the defined enum values",
        ],
    );
    check::<Cluster>(
        "{name: a, health_checks: [{http_health_check: {path: /}}]}",
        &[
            "health_checks[0].timeout: value is required",
            "health_checks[0].interval: value is required",
            "health_checks[0].unhealthy_threshold: value is required",
            "health_checks[0].healthy_threshold: value is required",
        ],
    );
}

#[test]
fn absent_header_names_are_no_violation() {
    check::<RouteConfiguration>(
        "{virtual_hosts: [{name: a, domains: ['*'], routes: [{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: b, weight: 1}]}}}]}]}",
        &[],
    );
}

#[test]
fn rules_of_routes() {
    check::<RouteConfiguration>(
        "{virtual_hosts: [{name: v, domains: [], routes: [{match: {prefix: /}, route: {cluster: ''}}]}]}",
        &[
            "virtual_hosts[0].domains: value must contain at least 1 item(s)",
            "virtual_hosts[0].routes[0].route.cluster: value length must be at least 1 characters",
        ],
    );
    check::<RouteConfiguration>(
        r#"{virtual_hosts: [{name: v, domains: ["a\nb"], routes: [{match: {}, redirect: {}}, {match: {path: /}}]}]}"#,
        &[
            "virtual_hosts[0].domains[0]: value does not match regex pattern \"^[^\\0\\n\\r]*$\"",
            "virtual_hosts[0].routes[0].match.path_specifier: value is required",
            "virtual_hosts[0].routes[1].action: value is required",
        ],
    );
    check::<RouteConfiguration>(
        "{response_headers_to_remove: ['']}",
        &["response_headers_to_remove[0]: value does not match regex pattern \"^[^\\0\\n\\r]+$\""],
    );
}

#[test]
fn rules_inside_any() {
    let listener = |config: &str| {
        format!(
            r#"{{name: l, address: {{socket_address: {{address: 1.1.1.1, port_value: 1}}}}, filter_chains: [{{filters: [{{name: f, typed_config: {config}}}]}}]}}"#
        )
    };
    let tcp_proxy = r#"{"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: '', cluster: c}"#;
    check::<Listener>(
        &listener(tcp_proxy),
        &["filter_chains[0].filters[0].typed_config.stat_prefix: value length must be at least 1 characters"],
    );
    let typed_struct = r#"{"@type": type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, value: {stat_prefix: '', cluster: c, extra: 1}}"#;
    let found = findings::<Listener>(&listener(typed_struct));
    assert_eq!(found.violations.len(), 1);
    assert_eq!(found.unknown_fields, ["filter_chains[0].filters[0].typed_config.value.extra"]);
}

#[test]
fn deprecated_fields_are_told() {
    let found = findings::<Cluster>("{name: a, use_tcp_for_dns_lookups: true}");
    assert_eq!(found.deprecated.len(), 1, "{found:?}");
    assert_eq!(found.deprecated[0].name, "envoy.config.cluster.v3.Cluster.use_tcp_for_dns_lookups");
    assert!(!found.deprecated[0].disallowed);
}

#[test]
fn unknown_fields_and_types_are_told() {
    let schema = Schema::shared();
    let mut bytes = HeaderValue { key: "k".into(), value: "v".into(), ..Default::default() }.encode_to_vec();
    prost::encoding::uint32::encode(4711, &1, &mut bytes);
    let (_, found) = inspect_any(&schema, &HeaderValue::type_url(), &bytes).unwrap();
    assert_eq!(found.unknown_fields, ["#4711"]);

    let bootstrap = Bootstrap {
        bootstrap_extensions: vec![envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig {
            name: "x".into(),
            typed_config: Some(envoy_types::pb::google::protobuf::Any { type_url: "a/no.Type".into(), value: vec![1] }),
        }],
        ..Default::default()
    };
    let (_, found) = inspect_any(&schema, &Bootstrap::type_url(), &bootstrap.encode_to_vec()).unwrap();
    assert_eq!(found.opaque[0].path, "bootstrap_extensions[0].typed_config");

    assert!(matches!(inspect_any(&schema, "a/no.Type", b""), Err(InspectError::UnknownType(_))));
    assert!(matches!(inspect_any(&schema, &Cluster::type_url(), b"\xff"), Err(InspectError::Decode { .. })));
}

#[test]
fn every_pattern_of_envoy_compiles() {
    let schema = Schema::shared();
    for message in schema.messages() {
        let facts = schema.facts(&message);
        for (number, field) in &facts.fields {
            if let Some(crate::schema::Check::String(rules, None)) =
                field.rule.as_ref().and_then(|rule| rule.check.as_ref())
            {
                assert!(
                    rules.pattern.is_none() && rules.well_known.is_none(),
                    "{} {number}: {rules:?}",
                    message.full_name()
                );
            }
        }
    }
}
