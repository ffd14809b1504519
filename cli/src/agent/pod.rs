//! What a pod says of itself: its environment, which the injector wrote, and the files that the kubelet keeps.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::bootstrap::{self, ExternalCa, Facts};

const TOKEN: &str = "/var/run/secrets/outrigger/token/token";
const ROOTS: &str = "/var/run/secrets/outrigger/ca/root-cert.pem";
const CA_TOKEN: &str = "/var/run/secrets/outrigger/external-ca/token";
const CA_ROOTS: &str = "/var/run/secrets/outrigger/external-ca/root-cert.pem";
const LABELS: &str = "/etc/outrigger/pod/labels";
/// More serve no pod better; each has buffers of its own.
const MOST_WORKERS: usize = 2;

/// A pod.
pub(super) struct Pod {
    name: String,
    namespace: String,
    pub(super) address: IpAddr,
    /// All its addresses, that one first.
    addresses: Vec<IpAddr>,
    account: String,
    workload: String,
    pilot: String,
    cluster_domain: String,
    /// The address of the CA that signs in the pilot's place, and the trust domain of the identity that it is asked for.
    ca: Option<(String, String)>,
    /// As the injector wrote them.
    pub(super) probes: String,
    /// The application's own metrics: port and path.
    pub(super) metrics: Option<(u16, String)>,
    pub(super) log_level: Option<String>,
    /// The share of its own traces that are kept, in percent.
    sampling: Option<f64>,
    /// How long a classic sidecar waits for what is under way.
    pub(super) drain: Duration,
    /// The kubelet ends it after the application.
    pub(super) native: bool,
    pub(super) workers: usize,
}

impl Pod {
    pub(super) fn from_env() -> anyhow::Result<Self> {
        let need =
            |name: &str| std::env::var(name).with_context(|| format!("{name} is not set: this runs in pods only"));
        let may = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        // Nothing on a node captures by eBPF yet. Without capture, the application would call past the mesh.
        anyhow::ensure!(
            may("OUTRIGGER_CAPTURE").as_deref() != Some("ebpf"),
            "no connections are captured by eBPF here: annotate the pod with outrigger.dev/capture: iptables"
        );
        let address = need("POD_IP")?;
        let metrics = may("OUTRIGGER_APP_METRICS");
        let metrics = metrics.as_deref().and_then(|text| text.split_once(' '));
        let seconds = may("OUTRIGGER_DRAIN_SECONDS").and_then(|text| text.parse().ok());
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            name: need("POD_NAME")?,
            namespace: need("POD_NAMESPACE")?,
            address: address.parse().with_context(|| format!("POD_IP {address}"))?,
            addresses: may("POD_IPS")
                .as_ref()
                .unwrap_or(&address)
                .split(',')
                .filter_map(|ip| ip.parse().ok())
                .collect(),
            account: need("SERVICE_ACCOUNT")?,
            workload: need("OUTRIGGER_WORKLOAD")?,
            pilot: need("OUTRIGGER_PILOT")?,
            cluster_domain: need("OUTRIGGER_CLUSTER_DOMAIN")?,
            ca: match may("OUTRIGGER_CA_ADDRESS") {
                Some(address) => Some((address, need("OUTRIGGER_TRUST_DOMAIN")?)),
                None => None,
            },
            probes: may("OUTRIGGER_PROBES").unwrap_or_else(|| "{}".to_owned()),
            metrics: metrics.and_then(|(port, path)| Some((port.parse().ok()?, path.to_owned()))),
            log_level: may("OUTRIGGER_LOG_LEVEL"),
            sampling: may("OUTRIGGER_TRACE_SAMPLING").and_then(|text| text.parse().ok()),
            drain: Duration::from_secs(seconds.unwrap_or(5)),
            native: may("OUTRIGGER_NATIVE").is_some_and(|text| text == "true"),
            workers: processors.min(MOST_WORKERS),
        })
    }

    /// Where the pod's pages are: at all its addresses.
    pub(super) fn pages(&self) -> IpAddr {
        match self.addresses.iter().any(IpAddr::is_ipv6) {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// What the sidecar starts from.
    pub(super) fn bootstrap(&self) -> anyhow::Result<Value> {
        let host = self.pilot.rsplit_once(':').map_or(self.pilot.as_str(), |(host, _)| host);
        let ca = self.ca.as_ref().map(|(address, trust_domain)| ExternalCa {
            address,
            roots: CA_ROOTS,
            token_file: CA_TOKEN,
            trust_domain,
        });
        let labels = std::fs::read_to_string(LABELS).unwrap_or_default();
        bootstrap::start(&Facts {
            name: &self.name,
            namespace: &self.namespace,
            workload: &self.workload,
            account: &self.account,
            labels: json!(downward(&labels)),
            address: self.address,
            addresses: &self.addresses,
            pages: self.pages(),
            cluster_domain: &self.cluster_domain,
            pilot: &self.pilot,
            tls: Some((json!({"filename": ROOTS}), host)),
            token: None,
            token_file: Some(TOKEN),
            ca,
            sampling: self.sampling,
        })
    }
}

/// Lines as `key="value"`, the value quoted as Go does. Source: Kubernetes, "Downward API".
fn downward(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let value: String = serde_json::from_str(value).ok()?;
        Some((key.to_owned(), value))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        let read = downward("app=\"web\"\nodd=\"a=\\\"b\\\"\"\nnonsense\n");
        assert_eq!(
            read,
            BTreeMap::from([("app".to_owned(), "web".to_owned()), ("odd".to_owned(), "a=\"b\"".to_owned())])
        );
    }
}
