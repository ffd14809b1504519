//! `outrigger bootstrap`: the Envoy bootstrap with which a workload's sidecar starts, ours or Envoy.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use pilot::workloads::{WorkloadInfo, WorkloadRequest, client};
use serde_json::{Value, json};
use xds::node::NodeId;

use crate::connect;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  outrigger bootstrap web -n shop --pilot 127.0.0.1:15010 --token web.token > web.yaml\n  sidecar -c web.yaml"
)]
pub(crate) struct Flags {
    /// The Workload.
    name: String,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The pilot's plain or secure xDS address.
    #[arg(long, value_name = "HOST:PORT")]
    pilot: String,
    /// A file that holds the workload's join token.
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// Read the Workload from these manifests rather than ask the pilot.
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    let token = flags
        .token
        .as_ref()
        .map(|file| std::fs::read_to_string(file).with_context(|| format!("token file {}", file.display())));
    let token = token.transpose()?.map(|token| token.trim().to_owned());
    let (mut info, tls) = crate::runtime()?.block_on(ask(flags))?;
    if let Some(folder) = &flags.manifests {
        from_manifests(flags, folder, &mut info)?;
    }
    let bootstrap = bootstrap(flags, &info, tls, token.as_deref())?;
    print!("{}", serde_saphyr::to_string(&bootstrap)?);
    Ok(ExitCode::SUCCESS)
}

/// The bootstrap of a workload that the pilot knows, as YAML.
pub(crate) async fn document(name: &str, namespace: &str, pilot: &str, token: Option<&str>) -> anyhow::Result<String> {
    let flags = Flags {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        pilot: pilot.to_owned(),
        token: None,
        manifests: None,
    };
    let (info, tls) = ask(&flags).await?;
    Ok(serde_saphyr::to_string(&bootstrap(&flags, &info, tls, token)?)?)
}

async fn ask(flags: &Flags) -> anyhow::Result<(WorkloadInfo, bool)> {
    let pilot = connect::pilot(&flags.pilot).await?;
    let request = WorkloadRequest { namespace: flags.namespace.clone(), name: flags.name.clone() };
    match client::get(pilot.channel, request).await {
        Ok(info) => Ok((info, pilot.tls)),
        Err(status) if status.code() == tonic::Code::NotFound && flags.manifests.is_some() => {
            Ok((WorkloadInfo { cluster_domain: "cluster.local".to_owned(), ..WorkloadInfo::default() }, pilot.tls))
        }
        Err(status) if status.code() == tonic::Code::NotFound => {
            bail!("the pilot knows no Workload `{}` in namespace `{}`", flags.name, flags.namespace)
        }
        Err(status) => bail!("the pilot at {} says: {}", flags.pilot, status.message()),
    }
}

fn from_manifests(flags: &Flags, folder: &std::path::Path, info: &mut WorkloadInfo) -> anyhow::Result<()> {
    let observed = pilot::source::files::read_once(&[folder.to_owned()])?;
    let key = api::Key::new(flags.namespace.clone(), flags.name.clone());
    let Some(workload) = observed.objects.workloads.get(&key) else {
        bail!("{} has no Workload `{}` in namespace `{}`", folder.display(), flags.name, flags.namespace)
    };
    info.address = workload.spec.address.map(|ip| ip.to_string()).unwrap_or_default();
    info.service_account = workload.spec.service_account().to_owned();
    info.labels.clone_from(&workload.metadata.labels);
    Ok(())
}

fn bootstrap(flags: &Flags, info: &WorkloadInfo, tls: bool, token: Option<&str>) -> anyhow::Result<Value> {
    let address: IpAddr = info.address.parse().with_context(|| format!("the Workload's address `{}`", info.address))?;
    let admin = if address.is_loopback() { address } else { IpAddr::from([127, 0, 0, 1]) };
    let id = NodeId::sidecar(address, &flags.name, &flags.namespace, &info.cluster_domain);
    let token: Vec<Value> =
        token.map(|token| json!({"key": "authorization", "value": format!("Bearer {token}")})).into_iter().collect();
    let source = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "5s"});
    Ok(json!({
        "node": {
            "id": id.to_string(),
            "cluster": format!("{}.{}", flags.name, flags.namespace),
            "metadata": {
                "NAMESPACE": flags.namespace,
                "NAME": flags.name,
                "WORKLOAD_NAME": flags.name,
                "SERVICE_ACCOUNT": info.service_account,
                "LABELS": info.labels,
                "CLUSTER_ID": "Kubernetes",
                "INSTANCE_IPS": info.address,
                "OUTRIGGER_CA": "xds-grpc",
            },
        },
        "admin": {"address": socket(&admin.to_string(), 15000)},
        "layered_runtime": {"layers": [{"name": "outrigger", "static_layer": {
            // Envoy would refuse most regular expressions that people write.
            "re2.max_program_size.error_level": 32768,
        }}]},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}, "initial_metadata": token}],
            },
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {
            "clusters": [xds_cluster(&flags.pilot, info, tls)?, local_cluster("prometheus_stats", &admin.to_string(), 15000)],
            "listeners": [
                page("readiness", address, 15021, "/healthz/ready", "/ready"),
                page("prometheus", address, 15090, "/stats/prometheus", "/stats/prometheus"),
            ],
        },
    }))
}

fn socket(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}

fn local_cluster(name: &str, host: &str, port: u16) -> Value {
    let kind = if host.parse::<IpAddr>().is_ok() { "STATIC" } else { "STRICT_DNS" };
    json!({
        "name": name, "type": kind, "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(host, port)}}]}]},
    })
}

fn xds_cluster(pilot: &str, info: &WorkloadInfo, tls: bool) -> anyhow::Result<Value> {
    let (host, port) = pilot.rsplit_once(':').with_context(|| format!("--pilot `{pilot}` is not HOST:PORT"))?;
    let port: u16 = port.parse().with_context(|| format!("--pilot `{pilot}` is not HOST:PORT"))?;
    let host = host.trim_matches(['[', ']']);
    let mut cluster = local_cluster("xds-grpc", host, port);
    let http2 = json!({"connection_keepalive": {"interval": "30s", "timeout": "5s"}});
    cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": http2},
    }});
    cluster["upstream_connection_options"] = json!({"tcp_keepalive": {"keepalive_time": 30}});
    if tls {
        cluster["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": "outrigger-pilot.outrigger-system.svc",
                "common_tls_context": {
                    "alpn_protocols": ["h2"],
                    "validation_context": {
                        "trusted_ca": {"inline_string": info.roots},
                        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "outrigger-pilot.outrigger-system.svc"}}],
                    },
                },
            },
        });
    }
    Ok(cluster)
}

/// A listener that shows one of the admin pages.
fn page(name: &str, address: IpAddr, port: u16, path: &str, admin_path: &str) -> Value {
    json!({
        "name": name,
        "address": socket(&address.to_string(), port),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [
                    {"match": {"path": path}, "route": {"cluster": "prometheus_stats", "prefix_rewrite": admin_path}},
                ]}]},
                "http_filters": [{"name": "envoy.filters.http.router", "typed_config":
                    {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
            },
        }]}],
    })
}
