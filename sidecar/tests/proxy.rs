//! The real binary with real sockets: a bootstrap on disk, an upstream, callers of both protocols.

#![allow(clippy::unwrap_used)]

mod process;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use process::{Sidecar, free_port, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Says what it was asked, fails the first try of `/flaky`, and takes its time for `/slow`.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(
                TokioIo::new(stream),
                service_fn(|request: Request<Incoming>| async move {
                    let attempt = request.headers().get("x-envoy-attempt-count").map_or("", |v| v.to_str().unwrap());
                    let status = if request.uri().path() == "/flaky" && attempt == "1" { 503 } else { 200 };
                    if request.uri().path() == "/slow" {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                    }
                    let host = request.headers()["host"].to_str().unwrap().to_owned();
                    let shown = format!("{} {host} {} {attempt}", request.method(), request.uri());
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let all = [shown.as_bytes(), b" ", &body].concat();
                    Ok::<_, Infallible>(Response::builder().status(status).body(Full::new(Bytes::from(all))).unwrap())
                }),
            ));
        }
    });
    address
}

fn bootstrap(listen: u16, admin: u16, upstream: SocketAddr, dead: u16, log: &str) -> String {
    let port = upstream.port();
    format!(
        r#"
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {listen}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          access_log:
          - name: file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {log}
              log_format:
                text_format_source:
                  inline_string: "%PROTOCOL% %REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_CLUSTER% %BYTES_RECEIVED%\n"
          normalize_path: true
          merge_slashes: true
          route_config:
            name: local
            virtual_hosts:
            - name: app
              domains: ["app.test"]
              include_request_attempt_count: true
              routes:
              - {{match: {{path: /moved}}, redirect: {{path_redirect: /new}}}}
              - {{match: {{prefix: /direct}}, direct_response: {{status: 418, body: {{inline_string: teapot}}}}}}
              - {{match: {{prefix: /dead}}, route: {{cluster: dead}}}}
              - {{match: {{prefix: /gone}}, route: {{cluster_header: x-none}}}}
              - {{match: {{path: /slow}}, route: {{cluster: app, timeout: 0.3s}}}}
              - {{match: {{prefix: /old/}}, route: {{prefix_rewrite: /new/, weighted_clusters: {{clusters: [{{name: dead, weight: 0}}, {{name: app, weight: 9}}]}}}}}}
              - match: {{prefix: /}}
                route: {{cluster: app, retry_policy: {{retry_on: 5xx, num_retries: 2}}}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: app
    load_assignment:
      cluster_name: app
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]
  - name: dead
    load_assignment:
      cluster_name: dead
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {dead}}}}}}}}}]}}]
"#
    )
}

#[tokio::test]
async fn one_static_bootstrap_over_both_protocols() {
    let upstream = upstream().await;
    let (listen, admin, dead) = (free_port(), free_port(), free_port());
    let log = std::env::temp_dir().join(format!("outrigger-access-{}.log", std::process::id()));
    let text = bootstrap(listen, admin, upstream, dead, log.to_str().unwrap());
    let mut sidecar = start(&text, "static", &[listen, admin]);
    for http2 in [false, true] {
        for (method, path, body, status, text) in [
            ("GET", "/a//b/../c?d=e", "", 200, "GET app.test /a/c?d=e 1 "),
            ("POST", "/up", "hello", 200, "POST app.test /up 1 hello"),
            ("POST", "/flaky", "again", 200, "POST app.test /flaky 2 again"),
            ("GET", "/old/x?y", "", 200, "GET app.test /new/x?y 1 "),
            ("GET", "/moved", "", 301, "http://app.test/new"),
            ("GET", "/direct", "", 418, "teapot"),
            ("GET", "/slow", "", 504, "upstream request timeout"),
            ("GET", "/gone", "", 503, ""),
            (
                "GET",
                "/dead",
                "",
                503,
                "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure",
            ),
        ] {
            let got = send(http2, listen, method, path, body).await;
            assert_eq!((got.0.as_u16(), got.1.as_str()), (status, text), "{method} {path}, HTTP/2 {http2}");
        }
    }
    let (_, stats) = send(false, admin, "GET", "/stats", "").await;
    for line in [
        "http.ingress.downstream_rq_total: 18",
        "http.ingress.downstream_rq_active: 0",
        "http.ingress.downstream_rq_2xx: 8",
        "cluster.app.upstream_rq_retry: 2",
        "cluster.app.upstream_rq_retry_success: 2",
        "cluster.app.upstream_rq_timeout: 2",
        "cluster.dead.upstream_cx_connect_fail: 2",
    ] {
        assert!(stats.lines().any(|l| l == line), "{line} in\n{stats}");
    }
    let lines = logged(&mut sidecar, &log);
    assert_eq!(lines.len(), 18, "{lines:?}");
    for line in [
        "HTTP/1.1 POST /up 200 - app 5",
        "HTTP/2 POST /flaky 200 - app 5",
        "HTTP/2 GET /dead 503 UF dead 0",
        "HTTP/1.1 GET /slow 504 UT app 0",
        "HTTP/1.1 GET /gone 503 NC - 0",
        "HTTP/2 GET /direct 418 - - 0",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line} in {lines:#?}");
    }
}

/// Stops the sidecar as an orchestrator would; what it logged is complete then.
fn logged(sidecar: &mut Sidecar, log: &std::path::Path) -> Vec<String> {
    let pid = rustix::process::Pid::from_child(&sidecar.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(sidecar.0.wait().unwrap().code(), Some(0));
    let text = std::fs::read_to_string(log).unwrap();
    std::fs::remove_file(log).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Calls the listener with another authority than its address.
async fn send(http2: bool, port: u16, method: &str, path: &str, body: &'static str) -> (StatusCode, String) {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let builder = Request::builder().method(method);
    if http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = builder.uri(format!("http://app.test{path}")).body(Full::new(Bytes::from(body))).unwrap();
        answer(sender.send_request(request).await.unwrap()).await
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = builder.uri(path).header("host", "app.test").body(Full::new(Bytes::from(body))).unwrap();
        answer(sender.send_request(request).await.unwrap()).await
    }
}

async fn answer(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let location = response.headers().get("location").map(|v| v.to_str().unwrap().to_owned());
    let text = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (status, location.unwrap_or(text))
}

#[test]
fn bad_bootstraps_are_refused_by_path() {
    for (text, path) in [
        (
            "static_resources: {clusters: [{name: a, conect_timeout: 1s}]}",
            "static_resources.clusters[0].conect_timeout",
        ),
        (
            "static_resources: {clusters: [{name: a, lb_subset_config: {list_as_any: true}}]}",
            "static_resources.clusters[0].lb_subset_config.list_as_any",
        ),
        ("nonsense: [", ""),
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_sidecar"))
            .args(["--config-yaml", text, "--mode", "validate"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(said.contains(path), "{path} in {said}");
    }
}

const FAULTS: &str = r#"
admin: {address: {socket_address: {address: 127.0.0.1, port_value: ADMIN}}}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: LISTEN}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}]}
          http_filters:
          - name: fault
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
              delay: {fixed_delay: 30s, percentage: {numerator: 100}}
              downstream_nodes: [slow]
              max_active_faults: 1
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
"#;

/// Faults are for the nodes that are named, and no more at once than may be: the others pass.
#[tokio::test]
async fn faults_have_an_end() {
    let (listen, admin) = (free_port(), free_port());
    let text = FAULTS.replace("LISTEN", &listen.to_string()).replace("ADMIN", &admin.to_string());
    let _sidecar = start(&text, "faults", &[listen, admin]);
    let ask = async |port: u16, path: &str, node: &str| {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-envoy-downstream-service-node: {node}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let said = async |mut stream: tokio::net::TcpStream| {
        let mut text = String::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut text)).await.unwrap().unwrap();
        text
    };
    let stat = async |line: &str| {
        let limit = tokio::time::Instant::now() + Duration::from_secs(10);
        while !said(ask(admin, "/stats?filter=fault", "").await).await.contains(line) {
            assert!(tokio::time::Instant::now() < limit, "{line} is not there");
        }
    };
    assert!(said(ask(listen, "/", "other").await).await.contains(" 200 "));
    let waits = ask(listen, "/", "slow").await;
    stat("http.in.fault.active_faults: 1").await;
    assert!(said(ask(listen, "/", "slow").await).await.contains(" 200 "));
    stat("http.in.fault.faults_overflow: 1").await;
    drop(waits);
    stat("http.in.fault.active_faults: 0").await;
}
