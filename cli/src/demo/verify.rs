//! `--verify`: one line a proof.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use api::Key;
use api::mesh_config::ZipkinUrl;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pilot::ca::Ca;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::load::{Load, call_web, version};
use super::manifests::{self, SAMPLES};
use super::mesh::{Mesh, connect};
use super::zipkin::services_by_trace;
use crate::connect::first_contact;

/// Proves all, and whether all holds.
pub(super) async fn verify(mesh: &Mesh, folder: &Path, zipkin: &ZipkinUrl) -> anyhow::Result<bool> {
    manifests::replace(folder, manifests::SPLIT, &manifests::split(90, 10))?;
    let ca = Ca::open(&mesh.state)?;
    let elsewhere = mesh.state.with_file_name("other-ca");
    let foreign = Ca::open(&elsewhere)?;
    let mut good = true;
    let mut say = |what: &str, result: anyhow::Result<String>| {
        match &result {
            Ok(detail) => println!("ok      {what}: {detail}"),
            Err(error) => println!("not ok  {what}: {error:#}"),
        }
        good &= result.is_ok();
    };
    say("every hop's caller is who it should be", identities().await);
    say("the split is 90 to 10", share(600, 0.1).await);
    say("an account that a target allows is served", allowed(&ca).await);
    say("a call in plaintext is refused", plaintext().await);
    say("a certificate of another CA is refused", refused(&foreign, "web", true).await);
    say("an account that no target allows is refused", refused(&ca, "intruder", false).await);
    say("the gRPC service answers", grpc().await);
    say("the TCP service answers", tcp().await);
    say("one trace holds every service", one_trace(zipkin).await);
    say("a change of weights takes effect within 1 s, with no failed request", change(folder).await);
    manifests::replace(folder, manifests::SPLIT, &manifests::split(90, 10))?;
    Ok(good)
}

async fn identities() -> anyhow::Result<String> {
    let answer = call_web().await?;
    let reviews = answer.get("next").context("web did not call reviews")?;
    let ratings = reviews.get("next").context("reviews did not call ratings")?;
    for (hop, account) in [(reviews, "web"), (ratings, "reviews")] {
        let shown = hop.get("caller").and_then(Value::as_str).unwrap_or_default();
        let wanted = format!("URI=spiffe://cluster.local/ns/shop/sa/{account}");
        ensure!(shown.split(';').any(|part| part == wanted), "the caller is {shown:?}, wanted {wanted}");
    }
    Ok("web at reviews, reviews at ratings".to_owned())
}

/// The share of v2 is within four standard deviations of the binomial distribution.
async fn share(times: u32, wanted: f64) -> anyhow::Result<String> {
    let mut v2 = 0;
    for _ in 0..times {
        let answer = call_web().await?;
        v2 += u32::from(version(&answer) == Some("reviews-v2"));
    }
    let (mean, n) = (wanted * f64::from(times), f64::from(times));
    let bound = 4.0 * (n * wanted * (1.0 - wanted)).sqrt();
    ensure!((f64::from(v2) - mean).abs() <= bound, "{v2} of {times} calls went to v2, wanted {mean:.0} ± {bound:.0}");
    Ok(format!("{v2} of {times} calls went to v2, wanted {mean:.0} ± {bound:.0}"))
}

/// The type of a TLS record that holds an alert. Source: RFC 8446, 5.1.
const TLS_ALERT: u8 = 21;

fn reviews() -> String {
    format!("{}:{}", SAMPLES[1].address(), SAMPLES[1].port.1)
}

/// What a server answers to a plain request over `stream`; empty if it closes or resets without a byte.
///
/// # Errors
/// The connection is neither answered nor ended within 5 s.
async fn ask(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> anyhow::Result<Vec<u8>> {
    let exchange = async {
        let mut answer = Vec::new();
        let request = b"GET / HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n";
        // What comes before a reset is what was answered; a reset while writing is the end as well.
        if stream.write_all(request).await.is_ok() {
            let _ = stream.read_to_end(&mut answer).await;
        }
        answer
    };
    tokio::time::timeout(Duration::from_secs(5), exchange).await.context("neither an answer nor an end in 5 s")
}

fn first_line(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).lines().next().unwrap_or_default().to_owned()
}

async fn plaintext() -> anyhow::Result<String> {
    let stream = connect(&reviews()).await.context("reviews does not listen")?;
    let answer = ask(stream).await?;
    // Any HTTP answer, even a refusal, would mean that plaintext was understood; a TLS alert says that it was not.
    if answer.first() == Some(&TLS_ALERT) {
        return Ok("answered with a TLS alert".to_owned());
    }
    ensure!(answer.is_empty(), "answered with {:?}", first_line(&answer));
    Ok("the connection is closed".to_owned())
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

/// A connection to reviews with a certificate that `ca` makes for an account; within, what the handshake came to.
///
/// # Errors
/// No certificate, or nobody listens.
async fn as_account(ca: &Ca, account: &str) -> anyhow::Result<std::io::Result<Tls>> {
    let (key, leaf) = ca.make("cluster.local", &Key::new("shop", account))?;
    let chain = leaf.chain.concat();
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let config = first_contact()?.with_client_auth_cert(chain, key)?;
    let name = ServerName::try_from("reviews.shop")?;
    let tcp = connect(&reviews()).await.context("reviews does not listen")?;
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await)
}

/// Did the server end the handshake, by an alert or by closing?
fn ended_by_server(error: &std::io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let closed = [std::io::ErrorKind::UnexpectedEof, std::io::ErrorKind::ConnectionReset].contains(&error.kind());
    closed || matches!(tls, Some(rustls::Error::AlertReceived(_)))
}

async fn refused(ca: &Ca, account: &str, in_handshake: bool) -> anyhow::Result<String> {
    let answer = match as_account(ca, account).await? {
        // With TLS 1.3 a client learns only afterwards that it was refused.
        Ok(stream) => ask(stream).await?,
        Err(error) if in_handshake && ended_by_server(&error) => return Ok("in the handshake".to_owned()),
        Err(error) => return Err(error).context("the handshake failed for another reason"),
    };
    if in_handshake {
        ensure!(answer.is_empty(), "answered with {}", first_line(&answer));
        return Ok("the connection is closed".to_owned());
    }
    ensure!(answer.starts_with(b"HTTP/1.1 403"), "answered with {:?}", first_line(&answer));
    Ok(first_line(&answer))
}

async fn allowed(ca: &Ca) -> anyhow::Result<String> {
    let answer = ask(as_account(ca, "web").await??).await?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "answered with {:?}", first_line(&answer));
    Ok(first_line(&answer))
}

async fn grpc() -> anyhow::Result<String> {
    let stream = connect(&format!("{}:15001", SAMPLES[0].address())).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post("http://cart.shop:9090/demo.Cart/Get")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(&[0; 5])))?;
    let response = tokio::time::timeout(Duration::from_secs(5), sender.send_request(request)).await??;
    let head = response.headers().get("grpc-status").cloned();
    let body = response.into_body().collect().await?;
    let status = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned().or(head);
    let status = status.context("no grpc-status")?;
    ensure!(status == "0", "grpc-status {status:?}");
    Ok("grpc-status 0".to_owned())
}

async fn tcp() -> anyhow::Result<String> {
    let mut stream = connect(&format!("{}:15432", SAMPLES[0].address())).await?;
    stream.write_all(b"select 1").await?;
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_string(&mut answer)).await??;
    ensure!(answer == "db:select 1", "answered with {answer:?}");
    Ok(answer)
}

/// Read through Zipkin's API, whichever store is behind it.
async fn one_trace(zipkin: &ZipkinUrl) -> anyhow::Result<String> {
    let end = Instant::now() + Duration::from_secs(15);
    let mut most = 0;
    while Instant::now() < end {
        call_web().await?;
        for (id, services) in services_by_trace(zipkin).await? {
            let has = |name: &str| services.iter().any(|service| service == &format!("{name}.shop"));
            if has("web") && has("ratings") && (has("reviews-v1") || has("reviews-v2")) {
                return Ok(format!("{id}: {}", services.into_iter().collect::<Vec<_>>().join(", ")));
            }
            most = most.max(services.len());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    anyhow::bail!("no trace in 15 s; the largest holds {most} services")
}

async fn change(folder: &Path) -> anyhow::Result<String> {
    let load = Load::start(100);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    manifests::replace(folder, manifests::SPLIT, &manifests::split(0, 1))?;
    // In effect once calls in a row go to v2 alone, which by the old weights happens once in 10^30 times.
    let mut row = 0;
    let mut since = begun;
    while row < 30 {
        ensure!(begun.elapsed() < Duration::from_secs(5), "still not in effect after 5 s");
        let asked = Instant::now();
        if version(&call_web().await?) == Some("reviews-v2") {
            if row == 0 {
                since = asked;
            }
            row += 1;
        } else {
            row = 0;
        }
    }
    let took = since.duration_since(begun);
    ensure!(took < Duration::from_secs(1), "in effect after {} ms", took.as_millis());
    let count = load.take().context("no count")?;
    ensure!(count.failed == 0, "{} calls failed, the first: {}", count.failed, count.first_failure.unwrap_or_default());
    Ok(format!("{} ms, {} calls meanwhile", took.as_millis(), count.versions.iter().sum::<u64>()))
}
