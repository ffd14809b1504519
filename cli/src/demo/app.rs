//! The sample services, each a process of its own: HTTP and gRPC on one port (HTTP/1.1 and HTTP/2), or a TCP echo; and a client
//! that calls one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Flags {
    /// What it calls itself.
    name: String,
    /// Where it listens.
    #[arg(long, required_unless_present = "call")]
    listen: Option<SocketAddr>,
    /// Call this address rather than serve, and print what is answered.
    #[arg(long, value_name = "URL", conflicts_with = "listen")]
    call: Option<http::Uri>,
    /// How often; 0: until standard input ends, and only what failed is printed.
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// The service that it calls before it answers, by its sidecar's address.
    #[arg(long, requires = "via")]
    next: Option<String>,
    /// Its sidecar's address for HTTP.
    #[arg(long)]
    via: Option<SocketAddr>,
    /// Echo bytes rather than answer requests.
    #[arg(long)]
    tcp: bool,
}

/// What makes the spans of one request a trace.
const TRACE: [&str; 8] = [
    "x-request-id",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "traceparent",
    "tracestate",
];

type Calls = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    // Only when asked: the parent of a process that `kubectl exec` runs is gone at once.
    daemon::die_with_parent();
    match (&flags.call, flags.listen) {
        (Some(url), _) => crate::runtime()?.block_on(client(url, flags.times)),
        (None, Some(listen)) => crate::runtime()?.block_on(serve(listen, Arc::new(flags.clone())))?,
        (None, None) => anyhow::bail!("neither --listen nor --call is given"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Between calls without a number.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

async fn client(url: &http::Uri, times: u32) {
    let calls: Calls = Client::builder(TokioExecutor::new()).build_http();
    if times > 0 {
        for _ in 0..times {
            println!("{}", ask(&calls, url).await.unwrap_or_else(|error| format!("failed: {error}")));
        }
        return;
    }
    let (ended, mut end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let (mut made, mut failed) = (0, 0);
    while tokio::time::timeout(PAUSE, &mut end).await.is_err() {
        made += 1;
        if let Err(error) = ask(&calls, url).await {
            failed += 1;
            println!("failed: {error}");
        }
    }
    println!("{made} calls, {failed} failed");
}

async fn ask(calls: &Calls, url: &http::Uri) -> anyhow::Result<String> {
    let response = calls.get(url.clone()).await?;
    let status = response.status();
    let text = response.into_body().collect().await?.to_bytes();
    anyhow::ensure!(status.is_success(), "{status} {}", String::from_utf8_lossy(&text));
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn serve(listen: SocketAddr, flags: Arc<Flags>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let calls: Calls = Client::builder(TokioExecutor::new()).build_http();
    loop {
        let (stream, _) = listener.accept().await?;
        let (flags, calls) = (flags.clone(), calls.clone());
        tokio::spawn(async move {
            if flags.tcp {
                // A peer that goes away ends its echo.
                let _ = echo(stream, &flags.name).await;
                return;
            }
            let service = service_fn(move |request| answer(request, flags.clone(), calls.clone()));
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn echo(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let mut bytes = [0_u8; 1024];
    let read = stream.read(&mut bytes).await?;
    stream.write_all(format!("{name}:").as_bytes()).await?;
    stream.write_all(bytes.get(..read).unwrap_or_default()).await
}

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>, flags: Arc<Flags>, calls: Calls) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let grpc = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    // What is asked does not matter here, only that it has come.
    let _ = body.collect().await;
    if grpc {
        return Ok(grpc_answer(&flags.name));
    }
    let next = match (&flags.next, flags.via) {
        (Some(next), Some(via)) => call(&calls, next, via, &head.headers).await,
        _ => Value::Null,
    };
    let caller = head.headers.get("x-forwarded-client-cert").and_then(|value| value.to_str().ok());
    let text = json!({ "app": flags.name, "caller": caller, "next": next }).to_string();
    let failed = next.get("status").is_some_and(|status| status != 200);
    let body = Full::new(Bytes::from(text)).boxed_unsync();
    let mut response = Response::new(body);
    if failed {
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// An empty message and status 0.
fn grpc_answer(name: &str) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if let Ok(name) = HeaderValue::from_str(name) {
        response.headers_mut().insert("x-app", name);
    }
    response
}

async fn call(calls: &Calls, next: &str, via: SocketAddr, headers: &HeaderMap) -> Value {
    let mut request = Request::new(Full::default());
    let Ok(uri) = format!("http://{via}/").parse() else { return Value::Null };
    *request.uri_mut() = uri;
    let Ok(host) = HeaderValue::from_str(next) else { return Value::Null };
    request.headers_mut().insert(HOST, host);
    for name in TRACE.map(HeaderName::from_static) {
        if let Some(value) = headers.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    let answer = match calls.request(request).await {
        Ok(response) => response,
        Err(error) => return json!({ "status": 0, "error": error.to_string() }),
    };
    let status = answer.status().as_u16();
    let text = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    match serde_json::from_slice::<Value>(&text) {
        Ok(mut value) => {
            if let Value::Object(fields) = &mut value {
                fields.insert("status".to_owned(), status.into());
            }
            value
        }
        Err(_) => json!({ "status": status, "error": String::from_utf8_lossy(&text) }),
    }
}
