//! Two ends of a connection in memory, of which one or both take part in the exchange.

use std::sync::Arc;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Any, Struct, Value};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::observe::workload::{Own, Workload};
use xds::istio::metadata_exchange::MetadataExchange as Config;

const ALPN: &str = "istio-peer-exchange";

fn filter(name: &str) -> Arc<MetadataExchange> {
    let fields = [("WORKLOAD_NAME", name), ("NAMESPACE", "shop")];
    let fields = fields.map(|(key, text)| (key.to_owned(), Value { kind: Some(Kind::StringValue(text.to_owned())) }));
    let node = envoy_types::pb::envoy::config::core::v3::Node {
        metadata: Some(Struct { fields: fields.into() }),
        ..Default::default()
    };
    let own: Own = crate::observe::workload::config::own(&node);
    let config = Config { protocol: ALPN.to_owned(), enable_discovery: true, ..Default::default() };
    Arc::new(MetadataExchange { own: config::told(&own, &[]), ..config::filter(&config).unwrap() })
}

fn meet(filter: &Arc<MetadataExchange>, io: DuplexStream, alpn: &str) -> (Box<dyn Io>, Told) {
    let (tls, told) = (TlsInfo { alpn: alpn.to_owned(), ..TlsInfo::default() }, Told::default());
    (filter.meet(Box::new(io), Some(&tls), &told), told)
}

fn name(told: &Told) -> Option<String> {
    assert!(told.is_settled());
    told.peer().map(|peer| peer.workload.name.clone())
}

/// Whoever speaks first, both hear of each other and neither's bytes change; with a pipe that takes a byte at a time too.
#[tokio::test]
async fn both_take_part() {
    for pipe in [1, 7, 64 << 10] {
        for client_first in [true, false] {
            let (near, far) = duplex(pipe);
            let (mut client, of_client) = meet(&filter("web"), near, ALPN);
            let (mut server, of_server) = meet(&filter("db"), far, ALPN);
            let speaks = async |io: &mut Box<dyn Io>| {
                io.write_all(b"first").await.unwrap();
                let mut answer = [0; 6];
                io.read_exact(&mut answer).await.unwrap();
                assert_eq!(&answer, b"second");
                io.shutdown().await.unwrap();
            };
            let answers = async |io: &mut Box<dyn Io>| {
                let mut question = [0; 5];
                io.read_exact(&mut question).await.unwrap();
                assert_eq!(&question, b"first");
                io.write_all(b"second").await.unwrap();
                io.flush().await.unwrap();
                assert_eq!(io.read(&mut question).await.unwrap(), 0);
            };
            match client_first {
                true => tokio::join!(speaks(&mut client), answers(&mut server)),
                false => tokio::join!(speaks(&mut server), answers(&mut client)),
            };
            assert_eq!((name(&of_client).as_deref(), name(&of_server).as_deref()), (Some("db"), Some("web")));
        }
    }
}

/// Reading and writing in tasks of their own: neither takes from the other the word that the pipe has room again.
#[tokio::test]
async fn halves_in_two_tasks() {
    for pipe in [1, 3, 50] {
        let (near, far) = duplex(pipe);
        let ends = [("web", near), ("db", far)].map(|(name, io)| tokio::io::split(meet(&filter(name), io, ALPN).0));
        let sent = vec![7; 1000];
        let tasks = ends.map(|(mut from, mut to)| {
            let sent = sent.clone();
            let writes = tokio::spawn(async move {
                to.write_all(&sent).await.unwrap();
                to.shutdown().await.unwrap();
            });
            let reads = tokio::spawn(async move {
                let mut came = Vec::new();
                from.read_to_end(&mut came).await.unwrap();
                came
            });
            (writes, reads)
        });
        for (writes, reads) in tasks {
            let both = async { (writes.await.unwrap(), reads.await.unwrap()).1 };
            let came = tokio::time::timeout(std::time::Duration::from_secs(10), both).await;
            assert!(came.is_ok_and(|came| came == sent), "{pipe}");
        }
    }
}

/// What a peer sends, what arrives of it as data, and how it is named. Our own frame is sent in any case.
async fn check(sent: &[u8], arrives: &[u8], named: Option<&str>) {
    let (near, mut far) = duplex(256 << 10);
    let ours = filter("db");
    let (mut io, told) = meet(&ours, near, ALPN);
    far.write_all(sent).await.unwrap();
    far.shutdown().await.unwrap();
    let mut came = Vec::new();
    io.read_to_end(&mut came).await.unwrap();
    assert_eq!((came.as_slice(), name(&told).as_deref()), (arrives, named), "{sent:?}");
    let mut heard = vec![0; ours.own.len()];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, ours.own[..]);
}

fn frame_of(type_url: &str, value: &Struct) -> Vec<u8> {
    let any = Any { type_url: type_url.to_owned(), value: value.encode_to_vec() };
    frame::encode(&any.encode_to_vec()).to_vec()
}

#[tokio::test]
async fn whatever_a_peer_sends() {
    let web = filter("web").own.clone();
    check(&[&web[..], b"data"].concat(), b"data", Some("web")).await;
    check(&web, b"", Some("web")).await;
    check(b"PING", b"PING", None).await;
    check(b"", b"", None).await;
    check(b"\x3d\x23\x04", b"\x3d\x23\x04", None).await;
    check(&web[..web.len() - 1], b"", None).await;
    check(&[&frame::encode(b"\xff\xff\xff")[..], b"data"].concat(), b"data", None).await;
    check(&[&frame::encode(b"")[..], b"data"].concat(), b"data", None).await;
    let url = "type.googleapis.com/google.protobuf.Struct";
    check(&frame_of(url, &Struct::default()), b"", None).await;
    check(&frame_of("type.googleapis.com/no.such.Type", &Struct::default()), b"", None).await;
    let text = Value { kind: Some(Kind::StringValue("no struct".to_owned())) };
    let text = Struct { fields: [("x-envoy-peer-metadata".to_owned(), text)].into() };
    check(&[&frame_of(url, &text)[..], b"data"].concat(), b"data", None).await;
}

#[tokio::test]
async fn a_frame_without_end_ends_the_connection() {
    let (near, mut far) = duplex(256 << 10);
    let (mut io, told) = meet(&filter("db"), near, ALPN);
    far.write_all(b"\x3d\x23\x04\x67\x7f\xff\xff\xff").await.unwrap();
    let error = io.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!((error.kind(), told.is_settled()), (std::io::ErrorKind::InvalidData, false));
}

/// Where the other side did not agree, not a byte is added.
#[tokio::test]
async fn another_alpn() {
    let (near, mut far) = duplex(64);
    let (mut io, told) = meet(&filter("db"), near, "istio");
    assert_eq!(name(&told), None);
    io.write_all(b"data").await.unwrap();
    drop(io);
    let mut came = Vec::new();
    far.read_to_end(&mut came).await.unwrap();
    assert_eq!(came, b"data");
}

#[test]
fn a_peer_as_logs_show_it() {
    let own = Own {
        workload: Workload::default(),
        labels: [("role".to_owned(), "front".to_owned())].into(),
        ..Own::default()
    };
    let labels = ["role".to_owned()];
    let peer = config::peer(&config::told(&own, &labels)[8..], &labels).unwrap();
    let expected = r#"{"@type":"type.googleapis.com/google.protobuf.Struct","value":{"labels":{"role":"front"}}}"#;
    assert_eq!(peer.shown, expected);
}

#[test]
fn a_filter_without_a_name_is_refused() {
    let refused = config::filter(&Config::default()).err().map(|e| e.to_string());
    assert_eq!(refused.as_deref(), Some("protocol: value is required"));
}
