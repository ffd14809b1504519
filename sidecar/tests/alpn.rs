//! Two sidecars over mTLS, of which one has Istio's ALPN filter: what the other is offered, by the filter chain that it
//! chooses.

#![allow(clippy::unwrap_used)]

mod mesh;
mod process;

use mesh::Mesh;
use process::{free_port, start};

/// A chain for each ALPN name that says which it is.
fn server(mesh: &Mesh, port: u16) -> String {
    let chain = |matches: &str, says: &str| {
        format!(
            r#"
    - filter_chain_match: {{{matches}}}
      transport_socket: {}
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, direct_response: {{status: 200, body: {{inline_string: "{says}"}}}}}}]}}]}}
          local_reply_config: {{body_format: {{text_format_source: {{inline_string: "%LOCAL_REPLY_BODY% %PROTOCOL%"}}}}}}
          http_filters: [{{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]"#,
            mesh.downstream("server", r#"["h2", "http/1.1"]"#)
        )
    };
    let named =
        ["istio-http/1.1", "istio-h2"].map(|name| chain(&format!(r#"application_protocols: ["{name}"]"#), name));
    format!(
        r#"
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    listener_filters: [{{name: tls, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}}}]
    filter_chains:{}{}
"#,
        named.concat(),
        chain("", "other")
    )
}

/// A path for each cluster; `/off` is a route that switches the filter off.
fn client(mesh: &Mesh, port: u16, server: u16) -> String {
    let options = |choice: &str| {
        format!(
            r#"{{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, {choice}}}}}"#
        )
    };
    let one = "explicit_http_config: {http_protocol_options: {}}";
    let kept = "metadata: {filter_metadata: {istio: {alpn_override: 'false'}}}";
    let clusters: String = [
        ("one", one, ""),
        ("two", "explicit_http_config: {http2_protocol_options: {}}", ""),
        ("same", "use_downstream_protocol_config: {http_protocol_options: {}, http2_protocol_options: {}}", ""),
        ("auto", "auto_config: {}", ""),
        ("kept", one, kept),
    ]
    .map(|(name, choice, more)| {
        format!(
            r#"
  - name: {name}
    {more}
    transport_socket: {}
    typed_extension_protocol_options: {}
    load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {server}}}}}}}}}]}}]}}"#,
            mesh.upstream("client", r#"["istio-peer-exchange", "istio"]"#),
            options(choice)
        )
    })
    .concat();
    format!(
        r#"
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: out
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: /off}}
                route: {{cluster: one}}
                typed_per_filter_config: {{istio.alpn: {{"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}}}}
              - {{match: {{prefix: /}}, route: {{cluster_header: x-to}}}}
          http_filters:
          - name: istio.alpn
            typed_config:
              "@type": type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig
              alpn_override:
              - {{upstream_protocol: HTTP10, alpn_override: [istio-http/1.0, istio, http/1.0]}}
              - {{upstream_protocol: HTTP11, alpn_override: [istio-http/1.1, istio, http/1.1]}}
              - {{upstream_protocol: HTTP2, alpn_override: [istio-h2, istio, h2]}}
          - {{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}
  clusters:{clusters}
"#
    )
}

#[tokio::test]
async fn connections_offer_the_names_of_their_protocol() {
    let mesh = Mesh::new("alpn", &["client", "server"]);
    let (listen, far) = (free_port(), free_port());
    let _server = start(&server(&mesh, far), "alpn-server", &[far]);
    let _client = start(&client(&mesh, listen, far), "alpn-client", &[listen]);
    // Twice and in turns: connections that offer different names are never each other's.
    for round in 0..2 {
        for (http2, path, cluster, expected) in [
            (false, "/", "one", "istio-http/1.1 HTTP/1.1"),
            (false, "/off", "", "other HTTP/1.1"),
            (true, "/", "one", "istio-http/1.1 HTTP/1.1"),
            (false, "/", "two", "istio-h2 HTTP/2"),
            (false, "/", "same", "istio-http/1.1 HTTP/1.1"),
            (true, "/", "same", "istio-h2 HTTP/2"),
            (false, "/", "auto", "istio-h2 HTTP/2"),
            (false, "/", "kept", "other HTTP/1.1"),
        ] {
            let got = mesh::get(http2, listen, path, cluster).await;
            assert_eq!(got, expected, "{round}: {path} {cluster}, HTTP/2 {http2}");
        }
    }
}
