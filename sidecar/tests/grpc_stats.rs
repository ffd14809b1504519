//! Calls of gRPC through the real binary: what is counted of them and of their messages, while they pass and when they end.

#![allow(clippy::unwrap_used)]

mod mesh;
mod process;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use process::{free_port, start};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

type Frames = Vec<Result<Frame<Bytes>, Infallible>>;

const MESSAGE: &[u8] = b"\0\0\0\0\x03abc";

/// Answers with one message more than it gets, and the status that the path names.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |request: Request<Incoming>| async move {
        let status = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let came = request.into_body().collect().await.map(|body| body.to_bytes().len()).unwrap_or_default();
        let messages = MESSAGE.repeat(came / MESSAGE.len() + 1);
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), status.parse().unwrap())]);
        // Cut where no message ends.
        let pieces = messages.chunks(5).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))));
        let frames: Frames = pieces.chain([Ok(Frame::trailers(trailers))]).collect();
        let body = StreamBody::new(tokio_stream::iter(frames));
        Ok::<_, Infallible>(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
    };
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    address
}

fn bootstrap(listen: u16, admin: u16, upstream: u16) -> String {
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
          - {{name: grpc, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig, emit_filter_state: true, individual_method_stats_allowlist: {{services: [{{name: shop.Cart, method_names: ['0']}}]}}, enable_upstream_stats: true}}}}
          - {{name: istio.stats, typed_config: {{"@type": type.googleapis.com/stats.PluginConfig}}}}
          - {{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}
  clusters:
  - name: app
    typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{http2_protocol_options: {{}}}}}}}}
    load_assignment: {{cluster_name: app, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}}}]}}]}}
"#
    )
}

/// Begins a call; it ends when the sender is dropped.
async fn begin(port: u16, path: &str) -> (mpsc::Sender<Bytes>, tokio::task::JoinHandle<usize>) {
    let io = TokioIo::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let (messages, body) = mpsc::channel::<Bytes>(8);
    let body = StreamBody::new(ReceiverStream::new(body).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))));
    let request = Request::post(format!("http://app.test{path}")).header("content-type", "application/grpc");
    let request = request.body(body).unwrap();
    let call = tokio::spawn(async move {
        let response = sender.send_request(request).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes().len() / MESSAGE.len()
    });
    (messages, call)
}

/// Waits until all these lines are there.
async fn stats(admin: u16, expected: &[&str]) {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let text = mesh::get(false, admin, "/stats", "").await;
        let Some(missing) = expected.iter().find(|line| !text.lines().any(|l| l.starts_with(**line))) else { return };
        assert!(Instant::now() < limit, "{missing} in {text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn calls_and_messages() {
    let (listen, admin) = (free_port(), free_port());
    let text = bootstrap(listen, admin, upstream().await.port());
    let _sidecar = start(&text, "grpc-stats", &[listen, admin]);
    for (path, sent, cut) in [("/shop.Cart/Add/0", 3, 2), ("/shop.Cart/Add/0", 0, 1), ("/shop.Cart/Add/7", 1, 100)] {
        let (messages, call) = begin(listen, path).await;
        for piece in MESSAGE.repeat(sent).chunks(cut) {
            messages.send(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        drop(messages);
        assert_eq!(call.await.unwrap(), sent + 1, "{path}");
    }
    stats(admin, &["cluster.app.grpc.0: 2", "cluster.app.grpc.7: 1", "cluster.app.grpc.success: 2"]).await;
    stats(admin, &["cluster.app.grpc.failure: 1", "cluster.app.grpc.total: 3"]).await;
    stats(admin, &["cluster.app.grpc.request_message_count: 4", "cluster.app.grpc.response_message_count: 7"]).await;
    // Messages of a call that goes on are counted as they pass, here by their method.
    let (messages, call) = begin(listen, "/shop.Cart/0").await;
    messages.send(Bytes::from_static(MESSAGE)).await.unwrap();
    stats(admin, &["cluster.app.grpc.shop.Cart.0.request_message_count: 1", "cluster.app.grpc.total: 3"]).await;
    drop(messages);
    assert_eq!(call.await.unwrap(), 2);
    let sides = "istiocustom.istio_request_messages_total.reporter.source";
    stats(admin, &["cluster.app.grpc.shop.Cart.0.total: 1", "cluster.app.grpc.total: 3", sides]).await;
    let text = mesh::get(false, admin, "/stats/prometheus", "").await;
    for (name, count) in [("istio_request_messages_total", 5), ("istio_response_messages_total", 9)] {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.ends_with(&format!(" {count}")) && !line.contains("response_code"), "{line}");
    }
}
