//! One table: rules, a caller, what is decided.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use envoy_types::pb::envoy::config::rbac::v3 as pb;
use xds::Schema;
use xds::document::Format;
use xds::json::{UnknownFields, parse};

use super::{Subject, config};
use crate::net::Address;
use crate::request::{RequestHead, Scheme};
use crate::stream::{CertificateFacts, Connection, Protocol, Stream, TlsInfo};

fn stream(identity: Option<&str>) -> Stream {
    let at = |port| Address::Ip(([127, 0, 0, 1], port).into());
    let tls = identity.map(|id| {
        let peer = CertificateFacts { uri_sans: vec![id.to_owned()], ..Default::default() };
        Arc::new(TlsInfo { peer: Some(Arc::new(peer)), peer_validated: true, ..Default::default() })
    });
    Stream::new(Rc::new(Connection {
        id: 1,
        start: Instant::now(),
        direct_remote: at(999),
        remote: at(999),
        direct_local: at(8080),
        local: at(8080),
        local_restored: false,
        listener_metadata: Default::default(),
        filter_chain: "".into(),
        tls,
        inspected_sni: String::new(),
        told: Default::default(),
        transport_protocol: "tls",
        termination_details: RefCell::default(),
        transport_failure: RefCell::default(),
        kept: Default::default(),
    }))
}

fn check(rules: &str, caller: Option<&str>, method: &str, path: &str, expected: (bool, Option<&str>)) {
    let message = parse::<pb::Rbac>(&Schema::shared(), rules, Format::Yaml, UnknownFields::Refuse).unwrap().message;
    let rbac = config::rbac(&message).unwrap();
    let head = RequestHead {
        method: method.parse().unwrap(),
        scheme: Scheme::Http,
        authority: None,
        path: Some(path.parse().unwrap()),
        headers: Default::default(),
        protocol: Protocol::Http11,
        connect_protocol: None,
    };
    let stream = stream(caller);
    let got = rbac.decide(Subject { stream: &stream, head: Some(&head) });
    assert_eq!((got.allowed, got.policy), expected, "{caller:?} {method} {path} by {rules}");
}

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

#[test]
fn decisions() {
    let reads = "{action: ALLOW, policies: {web: {permissions: [{and_rules: {rules: [{url_path: {path: {prefix: /api/}}}, \
                 {header: {name: ':method', string_match: {exact: GET}}}]}}], \
                 principals: [{authenticated: {principal_name: {exact: 'spiffe://cluster.local/ns/shop/sa/web'}}}]}}}";
    check(reads, Some(WEB), "GET", "/api/a?b", (true, Some("web")));
    check(reads, Some(WEB), "POST", "/api/a", (false, None));
    check(reads, Some(WEB), "GET", "/apix", (false, None));
    check(reads, Some("spiffe://cluster.local/ns/shop/sa/other"), "GET", "/api/a", (false, None));
    check(reads, None, "GET", "/api/a", (false, None));
    check("{action: ALLOW, policies: {}}", Some(WEB), "GET", "/", (false, None));
    let deny = "{action: DENY, policies: {x: {permissions: [{destination_port: 8080}], principals: [{any: true}]}}}";
    check(deny, None, "GET", "/", (false, Some("x")));
    let template = "{name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: '/x/*/y/**'}}";
    let template = format!(
        "{{action: DENY, policies: {{x: {{permissions: [{{not_rule: {{uri_template: {template}}}}}], principals: [{{any: true}}]}}}}}}"
    );
    check(&template, None, "GET", "/x/1/y/2/3?q", (true, None));
    check(&template, None, "GET", "/x/1/2/y/3", (false, Some("x")));
    check(&template, None, "GET", "/x//y/3", (false, Some("x")));
    let others =
        "{action: DENY, policies: {x: {permissions: [{any: true}], principals: [{not_id: {authenticated: {}}}]}}}";
    check(others, Some(WEB), "GET", "/", (true, None));
    check(others, None, "GET", "/", (false, Some("x")));
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let cel = "{policies: {x: {permissions: [{any: true}], principals: [{any: true}], condition: {const_expr: {bool_value: true}}}}}";
    let message = parse::<pb::Rbac>(&Schema::shared(), cel, Format::Yaml, UnknownFields::Refuse).unwrap().message;
    let error = config::rbac(&message).err().unwrap();
    assert_eq!(error.path, "policies[x].condition");
    let template = "{policies: {x: {permissions: [{uri_template: {name: t, typed_config: {'@type': type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: 'x'}}}], principals: [{any: true}]}}}";
    let message = parse::<pb::Rbac>(&Schema::shared(), template, Format::Yaml, UnknownFields::Refuse).unwrap().message;
    let error = config::rbac(&message).err().unwrap();
    assert_eq!(error.path, "policies[x].permissions[0].uri_template.typed_config.path_template");
}

#[test]
fn metadata() {
    let matcher = "{filter: jwt, path: [{key: group}], value: {string_match: {exact: admins}}}";
    for (rule, of_route, expected) in [
        (format!("metadata: {matcher}"), false, true),
        (format!("sourced_metadata: {{metadata_matcher: {matcher}}}"), false, true),
        (format!("sourced_metadata: {{metadata_matcher: {matcher}}}"), true, false),
        (format!("sourced_metadata: {{metadata_matcher: {matcher}, metadata_source: ROUTE}}"), true, true),
        (format!("sourced_metadata: {{metadata_matcher: {matcher}, metadata_source: ROUTE}}"), false, false),
    ] {
        let rules = format!("{{policies: {{p: {{permissions: [{{any: true}}], principals: [{{{rule}}}]}}}}}}");
        let message =
            parse::<pb::Rbac>(&Schema::shared(), &rules, Format::Yaml, UnknownFields::Refuse).unwrap().message;
        let stream = stream(None);
        stream.set_metadata("jwt", "group", "admins".into());
        if of_route {
            let all = stream.dynamic_metadata.take();
            *stream.route_metadata.borrow_mut() = Some(Arc::new(all));
        }
        let got = config::rbac(&message).unwrap().decide(Subject { stream: &stream, head: None }).allowed;
        assert_eq!(got, expected, "{rule} {of_route}");
    }
}
