//! Two sidecars over mTLS that tell each other who they are ahead of a TCP connection's bytes, as istiod has them do it.

#![allow(clippy::unwrap_used)]

mod mesh;
mod process;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use mesh::Mesh;
use process::{free_port, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const EXCHANGE: &str = r#"{"@type": type.googleapis.com/udpa.type.v1.TypedStruct, type_url: type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange, value: {protocol: istio-peer-exchange, enable_discovery: true, additional_labels: [role]}}"#;

const STATS: &str = r#"{"@type": type.googleapis.com/stats.PluginConfig, tcp_reporting_duration: 0.05s}"#;

/// Greets who connects, then sends back what comes.
async fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                to.write_all(b"hello ").await?;
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    address
}

fn node(name: &str) -> String {
    format!(
        "{{id: node-{name}, metadata: {{WORKLOAD_NAME: {name}, NAMESPACE: shop, CLUSTER_ID: east, LABELS: {{app: {name}, \
         role: r-{name}, secret: s}}}}}}"
    )
}

fn tcp(log: &Path, format: &str, cluster: &str) -> String {
    let log = log.display();
    format!(
        r#"{{name: tcp, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: tcp, cluster: {cluster}, access_log: [{{name: file, typed_config: {{"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: {log}, log_format: {{text_format_source: {{inline_string: "{format} %BYTES_RECEIVED% %BYTES_SENT%\n"}}}}}}}}]}}}}"#
    )
}

fn endpoint(name: &str, port: u16) -> String {
    format!(
        "load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: \
         {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]}}"
    )
}

fn server(mesh: &Mesh, ports: [u16; 2], app: u16, log: &Path) -> String {
    let [port, admin] = ports;
    format!(
        r#"
node: {}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    traffic_direction: INBOUND
    filter_chains:
    - transport_socket: {}
      filters: [{{name: istio.metadata_exchange, typed_config: {EXCHANGE}}}, {{name: istio.stats, typed_config: {STATS}}}, {}]
  clusters: [{{name: app, {}}}]
"#,
        node("db"),
        mesh.downstream("db", r#"["istio-peer-exchange", "h2", "http/1.1"]"#),
        tcp(log, "%FILTER_STATE(downstream_peer)%", "app"),
        endpoint("app", app)
    )
}

/// A listener for each: a cluster that agrees on the exchange, one that does not, and one that agrees and never tells.
fn client(mesh: &Mesh, ports: [u16; 4], server: u16, log: &Path) -> String {
    let admin = ports[3];
    let filters = format!("filters: [{{name: istio.metadata_exchange, typed_config: {EXCHANGE}}}]");
    let kinds =
        [("tells", r#"["istio-peer-exchange", "istio"]"#, filters.as_str()), ("other", r#"["istio"]"#, &filters)];
    let kinds = [kinds[0], kinds[1], ("silent", kinds[0].1, "")];
    let listeners: String = kinds
        .iter()
        .zip(ports)
        .map(|((name, ..), port)| {
            format!(
                r#"
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    traffic_direction: OUTBOUND
    filter_chains: [{{filters: [{{name: istio.stats, typed_config: {STATS}}}, {}]}}]"#,
                tcp(log, "%UPSTREAM_CLUSTER% %UPSTREAM_FILTER_STATE(upstream_peer)%", name)
            )
        })
        .collect();
    let clusters: String = kinds
        .iter()
        .map(|(name, alpn, filters)| {
            let (socket, at) = (mesh.upstream("web", alpn), endpoint(name, server));
            format!(
                "\n  - {{name: {name}, transport_socket: {socket}, {at}{} {filters}}}",
                if filters.is_empty() { "" } else { "," }
            )
        })
        .collect();
    format!(
        r#"
node: {}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:{listeners}
  clusters:{clusters}
"#,
        node("web")
    )
}

/// Waits for the greeting before it says anything, or speaks first.
async fn call(port: u16, waits: bool) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut from, mut to) = stream.split();
    let mut came = vec![0; 6];
    if waits {
        from.read_exact(&mut came).await.unwrap();
    }
    to.write_all(b"ping").await.unwrap();
    to.shutdown().await.unwrap();
    if !waits {
        came.clear();
    }
    from.read_to_end(&mut came).await.unwrap();
    String::from_utf8_lossy(&came).into_owned()
}

/// The log's lines, once there are so many.
async fn lines(path: &Path, count: usize) -> Vec<String> {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= count {
            return text.lines().map(str::to_owned).collect();
        }
        assert!(Instant::now() < limit, "{count} lines in {text:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn shown(name: &str) -> String {
    format!(
        r#"{{"@type":"type.googleapis.com/google.protobuf.Struct","value":{{"app":"{name}","cluster":"east","labels":{{"role":"r-{name}"}},"namespace":"shop","workload":"{name}"}}}}"#
    )
}

#[tokio::test]
async fn both_sides_hear_of_each_other() {
    let mesh = Mesh::new("exchange", &["web", "db"]);
    let (near_log, far_log) = (mesh.file("web.log"), mesh.file("db.log"));
    let (near, far) = ([free_port(), free_port(), free_port(), free_port()], [free_port(), free_port()]);
    let app = application().await.port();
    let _server = start(&server(&mesh, far, app, &far_log), "exchange-server", &far);
    let _client = start(&client(&mesh, near, far[0], &near_log), "exchange-client", &near);
    let [tells, other, silent, admin] = near;
    // What the first connections, which only asked whether the listeners are there, left.
    let (skipped_near, skipped_far) = (lines(&near_log, 3).await.len(), lines(&far_log, 3).await.len());
    for port in [tells, other] {
        for waits in [true, false] {
            assert_eq!(tokio::time::timeout(Duration::from_secs(10), call(port, waits)).await.unwrap(), "hello ping");
        }
    }
    // Agreed, but without the filter: the caller gets what the other side told as data, and is heard all the same.
    let odd = tokio::time::timeout(Duration::from_secs(10), call(silent, false)).await.unwrap();
    assert!(odd.starts_with("=#\u{4}g") && odd.ends_with("hello ping"), "{odd}");
    // Connections end on two threads, in no certain order.
    let (web, db) = (shown("web"), shown("db"));
    let mut near = lines(&near_log, skipped_near + 5).await.split_off(skipped_near);
    near.sort();
    assert_eq!(near[..2], ["other - 4 10", "other - 4 10"]);
    assert!(near[2].starts_with("silent - 4 "), "{near:?}");
    assert_eq!(near[3..], [format!("tells {db} 4 10"), format!("tells {db} 4 10")]);
    let mut far_lines = lines(&far_log, skipped_far + 5).await.split_off(skipped_far);
    far_lines.sort();
    assert_eq!(far_lines[..3], ["- 4 10", "- 4 10", "- 4 10"]);
    assert_eq!(far_lines[3..], [format!("{web} 4 10"), format!("{web} 4 10")]);
    // The first connection to each listener only asked whether it is there.
    let stats = mesh::get(false, admin, "/stats?filter=metadata_exchange", "").await;
    let expected = "metadata_exchange.alpn_protocol_found: 3\nmetadata_exchange.alpn_protocol_not_found: 3\n";
    assert!(stats.starts_with(expected), "{stats}");
    let stats = mesh::get(false, far[1], "/stats?filter=metadata_exchange", "").await;
    assert!(stats.contains("initial_header_not_found: 2\n") && stats.contains("metadata_added: 5\n"), "{stats}");
    let mut open = TcpStream::connect(("127.0.0.1", tells)).await.unwrap();
    open.read_exact(&mut [0; 6]).await.unwrap();
    for (port, reporter, mtls, others) in
        [(admin, "source", "unknown", "db"), (far[1], "destination", "mutual_tls", "web")]
    {
        let both = if reporter == "source" { ("web", others) } else { (others, "db") };
        let labels = [
            format!("reporter=\"{reporter}\""),
            format!("source_workload=\"{}\"", both.0),
            format!("source_principal=\"spiffe://mesh/{}\"", both.0),
            format!("destination_workload=\"{}\"", both.1),
            format!("destination_principal=\"spiffe://mesh/{}\"", both.1),
            "destination_cluster=\"east\"".to_owned(),
            // The called side knows its own name; of the caller's cluster none is known.
            format!("destination_service=\"{}\"", if reporter == "source" { "unknown" } else { "db" }),
            "request_protocol=\"tcp\"".to_owned(),
            format!("connection_security_policy=\"{mtls}\""),
        ];
        // The first connection, two calls, and the open one; of the first it is chance whether it was greeted.
        counted(port, &labels, [4, 3, 8], 10 + 10 + 6).await;
    }
}

/// Waits until so many connections with these labels were opened and closed, so many bytes received, and as many sent at least.
async fn counted(port: u16, labels: &[String], expected: [u64; 3], sent: u64) {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let text = mesh::get(false, port, "/stats/prometheus", "").await;
        let value = |name: &str| -> u64 {
            let ours = text.lines().filter(|line| line.starts_with(name) && labels.iter().all(|l| line.contains(l)));
            ours.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        let names = ["connections_opened", "connections_closed", "received_bytes"];
        let got = names.map(|name| value(&format!("istio_tcp_{name}_total{{")));
        if got == expected && value("istio_tcp_sent_bytes_total{") >= sent {
            return;
        }
        assert!(Instant::now() < limit, "{got:?} {expected:?} {labels:?} in {text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
