//! The pod's metrics: the sidecar's and the application's, on one page.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

const TIMEOUT: Duration = Duration::from_secs(8);
/// More than any page of metrics has.
const LARGEST: usize = 64 << 20;
/// What comes from here is the sidecar's, by the rules of capture, and goes straight to the application.
pub(super) const PASSED_ON: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);

/// Both pages, the application's last; what one of them does not show is not there.
pub(super) async fn merged(admin: SocketAddr, pod: IpAddr, application: Option<&(u16, String)>) -> String {
    let mut text = match get(admin, "/stats/prometheus", None).await {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!("the sidecar shows no metrics: {error:#}");
            String::new()
        }
    };
    if let Some((port, path)) = application {
        match get(SocketAddr::new(pod, *port), path, Some(PASSED_ON)).await {
            Ok(more) => text.push_str(&without_end(&more)),
            Err(error) => tracing::warn!(port, path, "the application shows no metrics: {error:#}"),
        }
    }
    text
}

/// `# EOF` ends a page of OpenMetrics; more may follow here.
fn without_end(text: &str) -> String {
    let mut text = text.trim_end().trim_end_matches("# EOF").trim_end().to_owned();
    text.push('\n');
    text
}

/// How many requests are under way, as far as the sidecar tells.
pub(super) async fn active_requests(admin: SocketAddr) -> u64 {
    let text = get(admin, "/stats?filter=downstream_rq_active", None).await.unwrap_or_default();
    let pages = ["http.admin.", "http.readiness.", "http.prometheus."];
    let lines = text.lines().filter(|line| !pages.iter().any(|page| line.starts_with(page)));
    lines.filter_map(|line| line.rsplit_once(": ")?.1.trim().parse::<u64>().ok()).sum()
}

/// A page, as text.
pub(super) async fn get(at: SocketAddr, path: &str, from: Option<Ipv4Addr>) -> anyhow::Result<String> {
    ask(Method::GET, at, path, from).await
}

/// Changes something.
pub(super) async fn post(at: SocketAddr, path: &str) -> anyhow::Result<String> {
    ask(Method::POST, at, path, None).await
}

async fn ask(method: Method, at: SocketAddr, path: &str, from: Option<Ipv4Addr>) -> anyhow::Result<String> {
    let answered = async {
        let stream = connect(at, from).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", at.to_string());
        let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
        anyhow::ensure!(status.is_success(), "{at}{path} answers {status}");
        Ok(String::from_utf8_lossy(&body).into_owned())
    };
    tokio::time::timeout(TIMEOUT, answered).await.with_context(|| format!("{at}{path} does not answer"))?
}

/// A connection that is not captured.
pub(super) async fn connect(at: SocketAddr, from: Option<Ipv4Addr>) -> std::io::Result<TcpStream> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from.filter(|_| at.is_ipv4()) {
        socket.bind(SocketAddr::from((from, 0)))?;
    }
    socket.connect(at).await
}
