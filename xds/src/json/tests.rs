//! Texts in, messages and errors out.

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use prost::{Message, Name};

use super::*;

/// `text` read as `T` and printed again is `expected`, an object on one line.
fn check<T: Message + Name + Default>(text: &str, expected: &str) {
    let schema = Schema::shared();
    let parsed = parse::<T>(&schema, text, Format::Yaml, UnknownFields::Refuse).map(|parsed| parsed.message);
    let message = parsed.unwrap_or_else(|error| panic!("{text}: {error}"));
    let printed = print_encoded(&schema, &T::full_name(), &message.encode_to_vec(), Secrets::Show).unwrap();
    assert_eq!(printed.compact(), expected, "{text}");
}

/// Reading `text` as `T` fails, and each problem begins with an expected one.
fn refuse<T: Message + Name + Default + std::fmt::Debug>(text: &str, expected: &[&str]) {
    let schema = Schema::shared();
    match parse::<T>(&schema, text, Format::Yaml, UnknownFields::Refuse) {
        Err(ReadError::Fields(problems)) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert_eq!(problems.len(), expected.len(), "{text}: {problems:?}");
            for (problem, expected) in problems.iter().zip(expected) {
                assert!(problem.starts_with(expected), "{text}: {problem}");
            }
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn fields_as_envoy_reads_them() {
    for (text, expected) in [
        ("{name: x, connectTimeout: 0.25s}", r#"{"name":"x","connect_timeout":"0.250s"}"#),
        ("{name: x, connect_timeout: {seconds: 5}}", r#"{"name":"x","connect_timeout":"5s"}"#),
        (
            "{name: x, per_connection_buffer_limit_bytes: \"10\"}",
            r#"{"name":"x","per_connection_buffer_limit_bytes":10}"#,
        ),
        ("{name: x, type: strict_dns}", r#"{"name":"x","type":"STRICT_DNS"}"#),
        ("{name: x, type: 0}", r#"{"name":"x","type":"STATIC"}"#),
        ("{name: x, respect_dns_ttl: 'true', dns_jitter: null}", r#"{"name":"x","respect_dns_ttl":true}"#),
        ("{name: 1.10}", r#"{"name":"1.10"}"#),
        ("{name: x, dns_resolvers: {pipe: {path: p}}}", r#"{"name":"x","dns_resolvers":[{"pipe":{"path":"p"}}]}"#),
        (
            "{name: x, metadata: {filter_metadata: {b: {z: 1, a: [true, null, 2.5, {}]}, a: {}}}}",
            r#"{"name":"x","metadata":{"filter_metadata":{"a":{},"b":{"a":[true,null,"2.5",{}],"z":1}}}}"#,
        ),
    ] {
        check::<Cluster>(text, expected);
    }
}

#[test]
fn any_by_type() {
    check::<Filter>(
        r#"{name: f, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: s, cluster: c}}"#,
        r#"{"name":"f","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","stat_prefix":"s","cluster":"c"}}"#,
    );
    check::<Filter>(
        r#"{typed_config: {"@type": type.googleapis.com/google.protobuf.Duration, value: 1s}}"#,
        r#"{"typed_config":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}}"#,
    );
    let typed_struct =
        r#"{typed_config: {"@type": type.googleapis.com/udpa.type.v1.TypedStruct, type_url: x/y, value: {a: {b: 1}}}}"#;
    check::<Filter>(
        typed_struct,
        r#"{"typed_config":{"@type":"type.googleapis.com/udpa.type.v1.TypedStruct","type_url":"x/y","value":{"a":{"b":1}}}}"#,
    );
    check::<Filter>("{typed_config: {}}", r#"{"typed_config":{}}"#);
}

#[test]
fn problems_have_path_and_line() {
    refuse::<Bootstrap>(
        "static_resources:\n  listners: []\n",
        &[
            "static_resources.listners (line 2): no such field in envoy.config.bootstrap.v3.Bootstrap.StaticResources; did you mean \"listeners\"?",
        ],
    );
    refuse::<Bootstrap>(
        "static_resources:\n  clusters:\n  - name: a\n  - name: b\n    connect_timeout: 5\n    type: NOPE\n",
        &[
            "static_resources.clusters[1].connect_timeout (line 5): a duration",
            "static_resources.clusters[1].type (line 6): \"NOPE\" is no value of envoy.config.cluster.v3.Cluster.DiscoveryType: STATIC,",
        ],
    );
    refuse::<Bootstrap>("node: {id: 123}", &["node.id (line 1): a string is expected, not 123; put it in quotes"]);
    refuse::<Bootstrap>("node: [1]", &["node (line 1): an object"]);
    refuse::<Bootstrap>("[1]", &["line 1: an object (envoy.config.bootstrap.v3.Bootstrap) is expected, not a list"]);
    refuse::<Cluster>(
        "{per_connection_buffer_limit_bytes: -1}",
        &["per_connection_buffer_limit_bytes (line 1): -1 is out of range"],
    );
    refuse::<Cluster>("{connect_timeout: 1s, connectTimeout: 1s}", &["connectTimeout (line 1): given twice"]);
    refuse::<Cluster>("{type: EDS, cluster_type: {name: x}}", &["cluster_type (line 1): cannot be set beside type"]);
    refuse::<Filter>("{typed_config: {a: 1}}", &["typed_config (line 1): \"@type\" is missing"]);
    refuse::<Filter>(
        r#"{typed_config: {"@type": type.googleapis.com/no.such.Type}}"#,
        &["typed_config.@type (line 1): could not find @type \"type.googleapis.com/no.such.Type\""],
    );
    refuse::<Filter>(
        r#"{typed_config: {"@type": stats.PluginConfig}}"#,
        &["typed_config.@type (line 1): \"stats.PluginConfig\" is no"],
    );
    refuse::<Filter>(
        r#"{typed_config: {"@type": type.googleapis.com/stats.PluginConfig, metrics: [{drop: 7}]}}"#,
        &["typed_config.metrics[0].drop (line 1): true or false is expected, not 7"],
    );
}

#[test]
fn unknown_fields_can_be_collected() {
    let schema = Schema::shared();
    let parsed = parse::<Cluster>(&schema, "{name: x, foo: 1}", Format::Yaml, UnknownFields::Collect).unwrap();
    assert_eq!(parsed.message.name, "x");
    assert_eq!(parsed.unknown.len(), 1);
    assert_eq!(parsed.unknown[0].path, "foo");
}

#[test]
fn json_too() {
    let schema = Schema::shared();
    let read = |text: &str| parse::<Cluster>(&schema, text, Format::Json, UnknownFields::Refuse);
    assert_eq!(read(r#"{"name": "x"}"#).unwrap().message.name, "x");
    assert!(
        matches!(read(r#"{"name": "x", "name": "y"}"#), Err(ReadError::Syntax(error)) if error.message.contains("duplicate"))
    );
    assert!(matches!(read("{\"name\": \n"), Err(ReadError::Syntax(error)) if error.line == 2));
}

#[test]
fn secrets_are_hidden() {
    let schema = Schema::shared();
    let secret = "{name: s, tls_certificate: {certificate_chain: {filename: c.pem}, private_key: {inline_string: KEY}, password: {inline_bytes: S0VZ}}}";
    let message = parse::<Secret>(&schema, secret, Format::Yaml, UnknownFields::Refuse).unwrap().message;
    let show = |secrets| print_any(&schema, &Secret::type_url(), &message.encode_to_vec(), secrets).compact();
    assert!(show(Secrets::Show).contains("KEY"));
    assert_eq!(
        show(Secrets::Redact),
        r#"{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret","name":"s","tls_certificate":{"certificate_chain":{"filename":"c.pem"},"private_key":{"inline_string":"[redacted]"},"password":{"inline_bytes":"W3JlZGFjdGVkXQ=="}}}"#
    );
}

#[test]
fn secrets_in_a_typed_struct_are_hidden() {
    let schema = Schema::shared();
    let text = r#"{typed_config: {"@type": type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret, value: {name: s, generic_secret: {secret: {inline_string: KEY}}}}}"#;
    let filter = parse::<Filter>(&schema, text, Format::Yaml, UnknownFields::Refuse).unwrap().message;
    let printed =
        print_encoded(&schema, &Filter::full_name(), &filter.encode_to_vec(), Secrets::Redact).unwrap().compact();
    assert!(
        printed.contains(r#""value":{"name":"s","generic_secret":{"secret":{"inline_string":"[redacted]"}}}"#),
        "{printed}"
    );
}

#[test]
fn an_any_of_unknown_type_is_printed_as_base64() {
    let schema = Schema::shared();
    assert_eq!(
        print_any(&schema, "x/no.Type", b"\x01", Secrets::Show).compact(),
        r#"{"@type":"x/no.Type","value":"AQ=="}"#
    );
}

#[test]
fn numbers_and_indent() {
    let json = Json::Map(vec![
        (
            "a".to_owned(),
            Json::List(vec![Json::Double(1.0), Json::Double(1.5), Json::Float(0.1), Json::Double(f64::NAN)]),
        ),
        ("b".to_owned(), Json::Map(Vec::new())),
    ]);
    assert_eq!(json.pretty(), "{\n \"a\": [\n  1,\n  1.5,\n  0.1,\n  \"NaN\"\n ],\n \"b\": {}\n}");
}

#[test]
fn a_typed_struct_becomes_its_message() {
    use crate::istio::metadata_exchange::MetadataExchange;
    let schema = Schema::shared();
    let text = r#"{"protocol": "istio-peer-exchange", "enable_discovery": true, "newer": 1}"#;
    let value =
        parse::<envoy_types::pb::google::protobuf::Struct>(&schema, text, Format::Json, UnknownFields::Refuse).unwrap();
    let config: MetadataExchange = from_struct(&schema, &value.message).unwrap();
    assert_eq!(config.protocol, "istio-peer-exchange");
    assert!(config.enable_discovery);
}
