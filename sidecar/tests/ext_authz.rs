//! Requests that an authorization service is asked about, through the real binary: who passes, who does not, and what becomes
//! of them when the service is not there.

#![allow(clippy::unwrap_used)]

mod process;

use std::convert::Infallible;
use std::net::SocketAddr;

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use process::{free_port, start};
use tokio::net::{TcpListener, TcpStream};

/// Answers with what it was sent, and as the path says.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |request: Request<Incoming>| async move {
        let header = |name: &str| request.headers().get(name).map_or("-", |v| v.to_str().unwrap()).to_owned();
        let told = format!("{} {} {}", request.uri().path(), header("x-user"), header("cookie"));
        let status = if told.starts_with("/check/deny") { 403 } else { 200 };
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body = [told.as_bytes(), b" ", &body[..]].concat();
        let response = Response::builder().status(status).header("x-user", "alice").header("x-secret", "1");
        Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
    };
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let builder = hyper::server::conn::http1::Builder::new();
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    address
}

fn bootstrap(listen: u16, admin: u16, service: u16, upstream: u16, more: &str) -> String {
    format!(
        r#"
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {listen}}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: app}}}}]}}]}}
          http_filters:
          - name: authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              with_request_body: {{max_request_bytes: 6}}
              http_service:
                server_uri: {{uri: http://authz.test, cluster: authz, timeout: 5s}}
                path_prefix: /check
                authorization_response: {{allowed_upstream_headers: {{patterns: [{{exact: x-user}}]}}, allowed_client_headers: {{patterns: [{{exact: x-user}}]}}}}
              {more}
          - {{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}
  clusters:
  - name: app
    load_assignment: {{cluster_name: app, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}}}]}}]}}
  - name: authz
    load_assignment: {{cluster_name: authz, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {service}}}}}}}}}]}}]}}
"#
    )
}

async fn call(port: u16, path: &str, body: &'static str) -> (u16, bool, String) {
    let io = TokioIo::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(path).header("host", "app.test").header("x-user", "mallory").header("cookie", "c");
    let response = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    let (status, secret) = (response.status().as_u16(), response.headers().contains_key("x-secret"));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, secret, String::from_utf8_lossy(&body).into_owned())
}

async fn check(service: u16, upstream: u16, more: &str, calls: &[(&str, &'static str, (u16, bool, &str))]) {
    let (listen, admin) = (free_port(), free_port());
    let text = bootstrap(listen, admin, service, upstream, more);
    let _sidecar = start(&text, &format!("ext-authz-{listen}"), &[listen, admin]);
    for (path, body, (status, secret, answer)) in calls {
        let got = call(listen, path, body).await;
        assert_eq!(got, (*status, *secret, (*answer).to_owned()), "{path} {more}");
    }
}

#[tokio::test]
async fn verdicts() {
    let up = echo().await.port();
    let calls = [
        ("/open", "", (200, true, "/open alice c ")),
        ("/open", "123456", (200, true, "/open alice c 123456")),
        // The service was shown the body, and neither cookie nor the caller's own claim.
        ("/deny", "123", (403, false, "/check/deny - - 123")),
        ("/open", "1234567", (413, false, "Payload Too Large")),
    ];
    check(up, up, "", &calls).await;
}

#[tokio::test]
async fn no_service() {
    let (up, gone) = (echo().await.port(), free_port());
    check(gone, up, "", &[("/open", "", (403, false, ""))]).await;
    check(gone, up, "status_on_error: {code: 503}", &[("/open", "", (503, false, ""))]).await;
    check(gone, up, "failure_mode_allow: true", &[("/open", "a", (200, true, "/open mallory c a"))]).await;
    let off = "filter_enabled: {default_value: {numerator: 0}}";
    check(gone, up, off, &[("/open", "", (200, true, "/open mallory c "))]).await;
    let refused = format!("{off}\n              deny_at_disable: {{default_value: true, runtime_key: a}}");
    check(gone, up, &refused, &[("/open", "", (403, false, ""))]).await;
}
