//! The ports that a workload serves: mTLS and access control here, then the process. In explicit mode a listener for each;
//! captured, one for all.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use api::mesh_config::MtlsMode;
use api::routing::{Actions, HeaderMatch, RequestMatch, TextMatch};
use api::traffic_policy::{CircuitBreaker, RateLimit, Retry, RetryOn};
use api::workload::Capture;

use super::{access, names};
use crate::ir::{
    Action, Cluster, Discovery, Families, Forward, Inbound, InboundProtocol, Listener, Mtls, Protocol as Wire,
    ProxyPlan, Route, RouteTable, Serving, Telemetry, VirtualHost, VirtualInbound, Weighted,
};
use crate::mesh::{MeshSnapshot, Protocol, Service, ServicePort, Workload};

/// No limit on what the process itself is sent: limits are the callers'.
const UNLIMITED: CircuitBreaker = CircuitBreaker {
    max_connections: u32::MAX,
    max_pending_requests: u32::MAX,
    max_requests: u32::MAX,
    max_retries: u32::MAX,
};

/// Stands for every port that nothing is known of. No Service and no rule can name it.
const ANY_PORT: u16 = 0;

pub(super) fn add(
    mesh: &MeshSnapshot,
    workload: &Workload,
    families: Families,
    telemetry: &Telemetry,
    plan: &mut ProxyPlan,
) {
    let mut ports = Ports { mesh, workload, families, telemetry, plan };
    if workload.capture != Capture::Explicit {
        return ports.captured();
    }
    for port in &workload.ports {
        let serving = ports.serving(port.port, port.protocol, Discovery::Static(port.app));
        let address = SocketAddr::new(workload.address, port.port);
        ports.plan.listeners.push(Listener::Inbound(Inbound { address, serving }));
    }
}

struct Ports<'a> {
    mesh: &'a MeshSnapshot,
    workload: &'a Workload,
    families: Families,
    telemetry: &'a Telemetry,
    plan: &'a mut ProxyPlan,
}

impl Ports<'_> {
    fn captured(&mut self) {
        let serving = |number: u16, ports: &mut Self| {
            let declared = ports.workload.ports.iter().find(|port| port.port == number);
            let protocol = declared.map_or(Protocol::Detected, |port| port.protocol);
            let app = declared.map_or(SocketAddr::new(ports.workload.address, number), |port| port.app);
            (number, ports.serving(number, protocol, Discovery::Static(app)))
        };
        let known = self.known();
        let ports = known.into_iter().map(|number| serving(number, self)).collect();
        let others = self.serving(ANY_PORT, Protocol::Detected, Discovery::OriginalDst);
        self.plan.clusters.push(super::clusters::simple(crate::ir::BLACK_HOLE, Discovery::Nowhere, Wire::Tcp));
        self.plan.listeners.push(Listener::VirtualInbound(VirtualInbound { families: self.families, ports, others }));
    }

    /// The ports of a captured workload of which anything is known: it declares them, a Service means them, a rule names them.
    fn known(&self) -> BTreeSet<u16> {
        let key = &self.workload.key;
        let served = self.mesh.endpoints.values().flat_map(|endpoints| endpoints.iter());
        let served = served.filter(|endpoint| endpoint.workload.as_ref() == Some(key)).map(|endpoint| endpoint.port);
        let grants = self.mesh.grants_of(&self.workload.account).iter();
        let ruled = grants.filter_map(|grant| match &grant.ports {
            api::access::Ports::Only(ports) => Some(ports.iter().copied()),
            api::access::Ports::All => None,
        });
        let declared = self.workload.ports.iter().map(|port| port.port);
        declared.chain(served).chain(ruled.flatten()).filter(|port| *port != ANY_PORT).collect()
    }

    fn serving(&mut self, port: u16, declared: Protocol, app: Discovery) -> Serving {
        let (mesh, workload) = (self.mesh, self.workload);
        let services = serving(mesh, workload, port);
        let protocol = services.iter().map(|(_, port)| port.protocol).find(|p| *p != Protocol::Detected);
        let protocol = protocol.unwrap_or(declared);
        let name = names::inbound(port);
        let captured = workload.capture != Capture::Explicit;
        self.plan.clusters.push(self.cluster(&name, app.clone(), protocol));
        // Captured, the process goes on being called by what it was called by before.
        let both = speaks_both(protocol) && !captured;
        if both {
            self.plan.clusters.push(self.cluster(&names::inbound_grpc(port), app, Protocol::Grpc));
        }
        let tcp = || access::tcp(mesh, workload, port);
        if protocol != Protocol::Tcp {
            self.plan.routes.push(table(mesh, workload, port, both, &services));
        }
        let spoken = match protocol {
            Protocol::Tcp => InboundProtocol::Tcp { access: tcp() },
            Protocol::Detected => InboundProtocol::Detected { routes: name.clone(), access: tcp() },
            _ => InboundProtocol::Http { routes: name.clone() },
        };
        Serving { cluster: name, protocol: spoken, mtls: mtls(mesh), telemetry: self.telemetry.clone() }
    }

    fn cluster(&self, name: &str, app: Discovery, protocol: Protocol) -> Cluster {
        let captured = self.workload.capture != Capture::Explicit;
        Cluster {
            protocol: match protocol {
                Protocol::Tcp => Wire::Tcp,
                Protocol::Http2 | Protocol::Grpc => Wire::Http2,
                Protocol::GrpcWeb => Wire::Http1,
                Protocol::Http | Protocol::Detected if captured => Wire::AsCalled,
                Protocol::Http | Protocol::Detected => Wire::Http1,
            },
            circuit_breaker: UNLIMITED,
            source: if captured { passed_on(self.families) } else { Vec::new() },
            ..super::clusters::simple(name, app, Wire::Tcp)
        }
    }
}

/// The addresses by which the rules of capture tell what the sidecar passes on from what must come to it.
/// Source: Istio's `InboundPassthroughBindIpv4` and `InboundPassthroughBindIpv6`.
fn passed_on(families: Families) -> Vec<IpAddr> {
    let (four, six) = (Ipv4Addr::new(127, 0, 0, 6).into(), Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into());
    match families {
        Families::V4 => vec![four],
        Families::Both => vec![four, six],
    }
}

/// The Services, with their ports, that have this port of the workload as an endpoint.
fn serving<'a>(mesh: &'a MeshSnapshot, workload: &Workload, port: u16) -> Vec<(&'a Service, &'a ServicePort)> {
    let mut found = Vec::new();
    for ((key, number), endpoints) in &mesh.endpoints {
        if !endpoints.iter().any(|e| e.port == port && e.workload.as_ref() == Some(&workload.key)) {
            continue;
        }
        let service = mesh.services.get(key).map(AsRef::as_ref);
        found.extend(service.and_then(|service: &Service| Some((service, service.ports.get(number)?))));
    }
    found
}

fn mtls(mesh: &MeshSnapshot) -> Mtls {
    let domains = || mesh.settings.trust_domains().map(ToString::to_string).collect();
    match mesh.settings.mtls {
        MtlsMode::Strict => Mtls::Strict(domains()),
        MtlsMode::Permissive => Mtls::Permissive(domains()),
        MtlsMode::Disabled => Mtls::Disabled,
    }
}

/// A process that says no more than HTTP is called by HTTP/1.1, which every one understands, whatever the caller used;
/// but gRPC cannot be.
const fn speaks_both(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Http | Protocol::Detected)
}

/// Source: the gRPC protocol on HTTP/2, "Content-Type"; gRPC-Web is another.
fn is_grpc() -> RequestMatch {
    let value = TextMatch::Regex("application/grpc(?:[+;].*)?".to_owned());
    let headers = vec![HeaderMatch { name: "content-type".to_owned(), value }];
    RequestMatch { headers, ..RequestMatch::default() }
}

/// What the process certainly has not seen goes to it again. Source: Istio's `ENABLE_INBOUND_RETRY_POLICY`.
fn unseen() -> Retry {
    Retry { attempts: 2, on: [RetryOn::RESET_BEFORE_REQUEST].into(), ..Retry::default() }
}

fn forward(name: &str, conditions: Vec<RequestMatch>, cluster: String) -> Route {
    let clusters = vec![(Weighted { cluster, weight: 1 }, Actions::default())];
    let action = Action::Forward(Box::new(Forward { clusters, retry: Some(unseen()), ..Forward::default() }));
    Route { name: name.to_owned(), conditions, action, actions: Actions::default() }
}

fn table(
    mesh: &MeshSnapshot,
    workload: &Workload,
    port: u16,
    both: bool,
    services: &[(&Service, &ServicePort)],
) -> RouteTable {
    let access = access::http(mesh, workload, port);
    let mut routes = Vec::new();
    if access.by_path() {
        let action = Action::RefuseEscapedSlash;
        routes.push(Route {
            name: "escaped-slash".to_owned(),
            conditions: Vec::new(),
            action,
            actions: Actions::default(),
        });
    }
    if both {
        routes.push(forward("grpc", vec![is_grpc()], names::inbound_grpc(port)));
    }
    routes.push(forward("default", Vec::new(), names::inbound(port)));
    let host = VirtualHost {
        name: format!("inbound|http|{port}"),
        domains: vec!["*".to_owned()],
        routes,
        access,
        rate_limit: rate_limit(services),
    };
    RouteTable { name: names::inbound(port), hosts: vec![host], inbound: true }
}

/// One bucket for the port; of several Services at one port, the strictest limit holds.
fn rate_limit(services: &[(&Service, &ServicePort)]) -> Option<RateLimit> {
    let limits = services.iter().filter_map(|(service, _)| service.policy.rate_limit);
    limits.min_by_key(|limit| u128::from(limit.requests.get()) * 1_000_000_000_000 / limit.per.get().as_nanos().max(1))
}
