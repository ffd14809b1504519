//! `outrigger bootstrap`: the Envoy bootstrap with which a workload's sidecar starts, ours or Envoy.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use pilot::workloads::{WorkloadInfo, WorkloadRequest, client};
use serde_json::{Value, json};
use xds::SpiffeId;
use xds::node::{NodeId, metadata as keys};

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
    /// For a gRPC client without a proxy (GRPC_XDS_BOOTSTRAP), whose certificate `outrigger cert issue` keeps in this folder.
    #[arg(long, value_name = "DIR")]
    grpc: Option<PathBuf>,
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
    if let Some(certificates) = &flags.grpc {
        println!("{}", serde_json::to_string_pretty(&grpc(flags, &info, certificates))?);
        return Ok(ExitCode::SUCCESS);
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
        grpc: None,
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

/// What a gRPC client starts from. Source: gRFC A27 and A29.
fn grpc(flags: &Flags, info: &WorkloadInfo, certificates: &std::path::Path) -> Value {
    let file = |name: &str| certificates.join(name).display().to_string();
    let address: IpAddr = info.address.parse().unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let id = NodeId::sidecar(address, &flags.name, &flags.namespace, &info.cluster_domain);
    json!({
        "xds_servers": [{
            "server_uri": flags.pilot,
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "node": {
            "id": id.to_string(),
            "cluster": format!("{}.{}", flags.name, flags.namespace),
            "metadata": {
                "GENERATOR": "grpc",
                "NAMESPACE": flags.namespace,
                "WORKLOAD_NAME": flags.name,
                "SERVICE_ACCOUNT": info.service_account,
            },
        },
        "certificate_providers": {"default": {"plugin_name": "file_watcher", "config": {
            "certificate_file": file("cert-chain.pem"),
            "private_key_file": file("key.pem"),
            "ca_certificate_file": file("root-cert.pem"),
            "refresh_interval": "60s",
        }}},
    })
}

/// What a sidecar starts from.
pub(crate) struct Facts<'a> {
    /// The workload's own name; a pod's.
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    /// Its name in metrics and traces.
    pub(crate) workload: &'a str,
    pub(crate) account: &'a str,
    pub(crate) labels: Value,
    /// Where peers connect.
    pub(crate) address: IpAddr,
    /// All its addresses, that one first.
    pub(crate) addresses: &'a [IpAddr],
    /// Where pages are shown beside the admin's.
    pub(crate) pages: IpAddr,
    pub(crate) cluster_domain: &'a str,
    /// `HOST:PORT`.
    pub(crate) pilot: &'a str,
    /// The roots and the name of a secure pilot, as Envoy's `DataSource` and text.
    pub(crate) tls: Option<(Value, &'a str)>,
    /// A token, for proxies that cannot read it again.
    pub(crate) token: Option<&'a str>,
    /// Where it stands, for those that can.
    pub(crate) token_file: Option<&'a str>,
    /// Who signs its certificate, if it is not the pilot.
    pub(crate) ca: Option<ExternalCa<'a>>,
    /// The share of its own traces that are kept, in percent, where it differs from the mesh's.
    pub(crate) sampling: Option<f64>,
}

/// A CA beside the pilot.
pub(crate) struct ExternalCa<'a> {
    /// `HOST:PORT`; its certificate names the host.
    pub(crate) address: &'a str,
    /// The file with its roots.
    pub(crate) roots: &'a str,
    /// The file with the token that it asks for.
    pub(crate) token_file: &'a str,
    /// The trust domain of the identity that it is asked for.
    pub(crate) trust_domain: &'a str,
}

/// The cluster by which the pilot is reached.
const PILOT: &str = "xds-grpc";
/// The cluster by which a CA beside it is reached.
const CA: &str = "ca";

fn bootstrap(flags: &Flags, info: &WorkloadInfo, tls: bool, token: Option<&str>) -> anyhow::Result<Value> {
    let address: IpAddr = info.address.parse().with_context(|| format!("the Workload's address `{}`", info.address))?;
    start(&Facts {
        name: &flags.name,
        namespace: &flags.namespace,
        workload: &flags.name,
        account: &info.service_account,
        labels: json!(info.labels),
        address,
        addresses: &[address],
        pages: address,
        cluster_domain: &info.cluster_domain,
        pilot: &flags.pilot,
        tls: tls.then(|| (json!({"inline_string": info.roots}), "outrigger-pilot.outrigger-system.svc")),
        token,
        token_file: None,
        ca: None,
        sampling: None,
    })
}

/// The bootstrap of a sidecar, ours or Envoy.
pub(crate) fn start(facts: &Facts<'_>) -> anyhow::Result<Value> {
    let address = facts.address;
    let admin = if address.is_loopback() { address } else { IpAddr::from([127, 0, 0, 1]) };
    let id = NodeId::sidecar(address, facts.name, facts.namespace, facts.cluster_domain);
    let token = facts.token.map(|token| json!({"key": "authorization", "value": format!("Bearer {token}")}));
    let token: Vec<Value> = token.into_iter().collect();
    let source = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "5s"});
    let mut metadata = json!({
        "NAMESPACE": facts.namespace,
        "NAME": facts.name,
        "WORKLOAD_NAME": facts.workload,
        "SERVICE_ACCOUNT": facts.account,
        "LABELS": facts.labels,
        "CLUSTER_ID": "Kubernetes",
        "INSTANCE_IPS": facts.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        "OUTRIGGER_CA": PILOT,
    });
    if let Some(file) = facts.token_file {
        metadata["OUTRIGGER_TOKEN_FILE"] = json!(file);
    }
    let admin_cluster = local_cluster("prometheus_stats", &admin.to_string(), 15000);
    let mut clusters = vec![grpc_cluster(PILOT, "--pilot", facts.pilot, facts.tls.as_ref())?, admin_cluster];
    let mut secrets: Vec<Value> = facts.tls.iter().filter_map(|(roots, _)| roots_secret(PILOT, roots)).collect();
    if let Some(ca) = &facts.ca {
        let id = SpiffeId::new(ca.trust_domain, facts.namespace, facts.account);
        metadata[keys::CA] = json!(CA);
        metadata[keys::CA_TOKEN_FILE] = json!(ca.token_file);
        metadata[keys::CA_IDENTITY] = json!(id.to_string());
        let host = ca.address.rsplit_once(':').map_or(ca.address, |(host, _)| host);
        let tls = (json!({"filename": ca.roots}), host);
        secrets.extend(roots_secret(CA, &tls.0));
        clusters.push(grpc_cluster(CA, "OUTRIGGER_CA_ADDRESS", ca.address, Some(&tls))?);
    }
    // Envoy would refuse most regular expressions that people write.
    let mut runtime = json!({"re2.max_program_size.error_level": 32768});
    if let Some(percent) = facts.sampling {
        let share = json!({"numerator": (percent * 10_000.0).round() as u32, "denominator": "MILLION"});
        runtime["tracing.random_sampling"] = share;
    }
    Ok(json!({
        "node": {
            "id": id.to_string(),
            "cluster": format!("{}.{}", facts.workload, facts.namespace),
            "metadata": metadata,
        },
        "admin": {"address": socket(&admin.to_string(), 15000)},
        "layered_runtime": {"layers": [{"name": "outrigger", "static_layer": runtime}]},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{
                    "envoy_grpc": {
                        "cluster_name": PILOT,
                        // A pilot that was away is found again soon; Envoy's own maximum is 30s.
                        "retry_policy": {"retry_back_off": {"base_interval": "0.2s", "max_interval": "3s"}},
                    },
                    "initial_metadata": token,
                }],
            },
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {
            "clusters": clusters,
            "secrets": secrets,
            "listeners": [
                page("readiness", facts.pages, 15021, "/healthz/ready", "/ready"),
                page("prometheus", facts.pages, 15090, "/stats/prometheus", "/stats/prometheus"),
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

/// `source` says where the address was given; `tls` has the roots and the server's name.
fn grpc_cluster(name: &str, source: &str, address: &str, tls: Option<&(Value, &str)>) -> anyhow::Result<Value> {
    let shape = || format!("{source} `{address}` is not HOST:PORT");
    let (host, port) = address.rsplit_once(':').with_context(shape)?;
    let port: u16 = port.parse().with_context(shape)?;
    let host = host.trim_matches(['[', ']']);
    let mut cluster = local_cluster(name, host, port);
    let http2 = json!({"connection_keepalive": {"interval": "30s", "timeout": "5s"}});
    cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": http2},
    }});
    cluster["upstream_connection_options"] = json!({"tcp_keepalive": {"keepalive_time": 30}});
    if let Some((roots, host)) = tls {
        let names = json!({"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}]});
        let mut common = json!({"alpn_protocols": ["h2"]});
        match roots_secret(name, roots) {
            Some(secret) => {
                common["combined_validation_context"] = json!({
                    "default_validation_context": names,
                    "validation_context_sds_secret_config": {"name": secret["name"]},
                });
            }
            None => {
                common["validation_context"] = names;
                common["validation_context"]["trusted_ca"] = roots.clone();
            }
        }
        cluster["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": host,
                "common_tls_context": common,
            },
        });
    }
    Ok(cluster)
}

/// Roots in a file are a secret of their own, which the sidecar reads again when they are rotated.
fn roots_secret(cluster: &str, roots: &Value) -> Option<Value> {
    roots.get("filename")?;
    Some(json!({"name": format!("{cluster}-roots"), "validation_context": {"trusted_ca": roots}}))
}

/// A listener that shows one of the admin pages.
fn page(name: &str, address: IpAddr, port: u16, path: &str, admin_path: &str) -> Value {
    let mut place = socket(&address.to_string(), port);
    if address == Ipv6Addr::UNSPECIFIED {
        // All addresses, whatever their family.
        place["socket_address"]["ipv4_compat"] = true.into();
    }
    json!({
        "name": name,
        "address": place,
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
