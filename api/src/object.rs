//! All kinds in one: which `apiVersion` and `kind` is which type, reading one object from a tree, and all objects by kind.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{Error as _, SerializeMap};

use crate::check;
use crate::core::{EndpointSlice, Namespace, Pod, Service, ServiceAccount};
use crate::gateway::{self, GrpcRoute, HttpRoute};
use crate::mesh_config::MeshConfig;
use crate::meta::{DEFAULT_NAMESPACE, Key, ObjectMeta, ObjectRef};
use crate::objects::{Origin, Stored};
use crate::smi::{HttpRouteGroup, TcpRoute, TrafficSplit, TrafficTarget, UdpRoute};
use crate::traffic_policy::TrafficPolicy;
use crate::workload::Workload;
use crate::yaml::{Entry, Node, NodeError, Value, from_node};

/// Declares the kinds once: variant (type), its kind word, its group, the version it is written as, versions it is read
/// from, and whether it has a namespace.
macro_rules! kinds {
    ($($variant:ident($type:ty) = $kind:literal, $group:literal, [$($version:literal),+], $namespaced:literal, $field:ident;)+) => {
        /// The kinds that are read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $(#[doc = $kind] $variant,)+
        }

        impl Kind {
            /// Every kind, in the order in which they are listed.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The kind as written in manifests.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $kind,)+ }
            }

            /// The API group, empty for Kubernetes' core.
            #[must_use]
            pub const fn group(self) -> &'static str {
                match self { $(Self::$variant => $group,)+ }
            }

            /// The versions that are read, the storage version first.
            #[must_use]
            pub const fn versions(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($version),+],)+ }
            }

            /// Whether objects of the kind are in a namespace.
            #[must_use]
            pub const fn namespaced(self) -> bool {
                match self { $(Self::$variant => $namespaced,)+ }
            }
        }

        /// An object of any kind, in its storage form.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Object {
            $(#[doc = $kind] $variant($type),)+
        }

        impl Object {
            /// Its kind.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant,)+ }
            }

            /// Its metadata.
            #[must_use]
            pub const fn metadata(&self) -> &ObjectMeta {
                match self { $(Self::$variant(o) => &o.metadata,)+ }
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Self::$variant(o) => &mut o.metadata,)+ }
            }

            fn fields(&self) -> Result<serde_json::Value, serde_json::Error> {
                match self { $(Self::$variant(o) => serde_json::to_value(o),)+ }
            }
        }

        fn read_as(kind: Kind, version: &str, node: &Node) -> Result<Object, NodeError> {
            match (kind, version) {
                (Kind::TrafficSplit, "v1alpha1") => crate::smi::split::v1alpha1(node).map(Object::TrafficSplit),
                $((Kind::$variant, _) => from_node::<$type>(node).map(Object::$variant),)+
            }
        }

        /// All objects that can be read, by kind, namespace and name, each with where it was read.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Objects {
            $(#[doc = concat!("Every `", $kind, "`.")] pub $field: BTreeMap<Key, Stored<$type>>,)+
        }

        impl Objects {
            /// Adds an object; one with the same kind, namespace and name is replaced and returned.
            pub fn insert(&mut self, object: Object, origin: Origin) -> Option<Origin> {
                match object {
                    $(Object::$variant(object) => {
                        let key = object.metadata.key();
                        self.$field.insert(key, Stored::new(object, origin)).map(|old| old.origin)
                    })+
                }
            }

            /// Takes an object out.
            pub fn remove(&mut self, kind: Kind, key: &Key) -> Option<Origin> {
                match kind { $(Kind::$variant => self.$field.remove(key).map(|old| old.origin),)+ }
            }

            /// Where an object was read.
            #[must_use]
            pub fn origin(&self, kind: Kind, key: &Key) -> Option<&Origin> {
                match kind { $(Kind::$variant => self.$field.get(key).map(|stored| &stored.origin),)+ }
            }

            /// The objects of a kind, by namespace and name.
            #[must_use]
            pub fn keys(&self, kind: Kind) -> Vec<&Key> {
                match kind { $(Kind::$variant => self.$field.keys().collect(),)+ }
            }

            /// An object of any kind, copied.
            #[must_use]
            pub fn get(&self, kind: Kind, key: &Key) -> Option<Object> {
                match kind {
                    $(Kind::$variant => self.$field.get(key).map(|stored| Object::$variant(stored.object.as_ref().clone())),)+
                }
            }
        }
    };
}

kinds! {
    Namespace(Namespace) = "Namespace", "", ["v1"], false, namespaces;
    Service(Service) = "Service", "", ["v1"], true, services;
    EndpointSlice(EndpointSlice) = "EndpointSlice", "discovery.k8s.io", ["v1", "v1beta1"], true, endpoint_slices;
    Pod(Pod) = "Pod", "", ["v1"], true, pods;
    ServiceAccount(ServiceAccount) = "ServiceAccount", "", ["v1"], true, service_accounts;
    MeshConfig(MeshConfig) = "MeshConfig", "mesh.outrigger.dev", ["v1alpha1"], false, mesh_configs;
    TrafficPolicy(TrafficPolicy) = "TrafficPolicy", "mesh.outrigger.dev", ["v1alpha1"], true, traffic_policies;
    Workload(Workload) = "Workload", "mesh.outrigger.dev", ["v1alpha1"], true, workloads;
    TrafficSplit(TrafficSplit) = "TrafficSplit", "split.smi-spec.io", ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"], true, traffic_splits;
    TrafficTarget(TrafficTarget) = "TrafficTarget", "access.smi-spec.io", ["v1alpha3", "v1alpha2", "v1alpha1"], true, traffic_targets;
    HttpRouteGroup(HttpRouteGroup) = "HTTPRouteGroup", "specs.smi-spec.io", ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"], true, http_route_groups;
    TcpRoute(TcpRoute) = "TCPRoute", "specs.smi-spec.io", ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"], true, tcp_routes;
    UdpRoute(UdpRoute) = "UDPRoute", "specs.smi-spec.io", ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"], true, udp_routes;
    HttpRoute(HttpRoute) = "HTTPRoute", "gateway.networking.k8s.io", ["v1", "v1beta1"], true, http_routes;
    GrpcRoute(GrpcRoute) = "GRPCRoute", "gateway.networking.k8s.io", ["v1", "v1alpha2"], true, grpc_routes;
    GatewayTcpRoute(gateway::TcpRoute) = "TCPRoute", "gateway.networking.k8s.io", ["v1", "v1alpha2"], true, gateway_tcp_routes;
}

/// The groups all of whose kinds are known here, so that an unknown one is a mistake.
const OWN_GROUPS: [&str; 4] = ["mesh.outrigger.dev", "split.smi-spec.io", "access.smi-spec.io", "specs.smi-spec.io"];

/// What an `apiVersion` and `kind` are to the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// A kind that is read, and the version in which it is written.
    Read(Kind, String),
    /// A kind of others, which is none of the mesh's business.
    Foreign,
    /// A kind or version that does not exist in a group of ours.
    Mistaken {
        /// One line.
        message: String,
        /// What was probably meant.
        help: Option<String>,
    },
}

impl Kind {
    /// The kinds named so in manifests, in any group: `TCPRoute` is one of SMI's and one of Gateway API's.
    pub fn named(kind: &str) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |k| k.as_str() == kind)
    }

    /// The kind as API servers write it in paths.
    #[must_use]
    pub fn plural(self) -> String {
        let word = self.as_str().to_ascii_lowercase();
        match word.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => format!("{word}s"),
        }
    }

    /// The `apiVersion` in which objects of the kind are stored.
    #[must_use]
    pub fn api_version(self) -> String {
        let version = self.versions().first().copied().unwrap_or_default();
        if self.group().is_empty() { version.to_owned() } else { format!("{}/{version}", self.group()) }
    }

    /// What an `apiVersion` and `kind` are to the mesh.
    #[must_use]
    pub fn lookup(api_version: &str, kind: &str) -> Known {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if let Some(found) = Self::ALL.iter().copied().find(|k| k.group() == group && k.as_str() == kind) {
            if found.versions().contains(&version) {
                return Known::Read(found, version.to_owned());
            }
            let help = Some(format!("versions that are read: {}", found.versions().join(", ")));
            return Known::Mistaken {
                message: format!("unknown version `{version}` of {kind} in group `{group}`"),
                help,
            };
        }
        if OWN_GROUPS.contains(&group) {
            let near = nearest(kind, Self::ALL.iter().filter(|k| k.group() == group).map(|k| k.as_str()));
            let help = near.map(|near| format!("did you mean `{near}`?"));
            return Known::Mistaken { message: format!("unknown kind `{kind}` in group `{group}`"), help };
        }
        match Self::named(kind).find(|k| OWN_GROUPS.contains(&k.group())) {
            Some(meant) if near_miss(group, meant.group()) => Known::Mistaken {
                message: format!("unknown group `{group}` of {kind}"),
                help: Some(format!("did you mean `{}`?", meant.api_version())),
            },
            _ => Known::Foreign,
        }
    }
}

/// Whether `group` looks like a slip of the pen for `meant`.
fn near_miss(group: &str, meant: &str) -> bool {
    nearest(group, [meant]).is_some()
}

/// The candidate nearest to `word` by edit distance, if it is near enough to have been meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits of one character, and swaps of neighbours, that make `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut cost = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

impl Object {
    /// Its namespace and name.
    #[must_use]
    pub fn key(&self) -> Key {
        self.metadata().key()
    }

    /// What names it in a problem.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        ObjectRef::new(self.kind(), &self.key())
    }

    /// Reads an object of `kind`, written in `version`, from a document's tree. `apiVersion`, `kind` and `status` are not
    /// looked at, except a Pod's status; a namespaced object without a namespace gets `default`.
    ///
    /// # Errors
    /// An unknown field (in groups of ours), a wrong type or a value that makes no sense.
    pub fn read(kind: Kind, version: &str, root: &Node) -> Result<Self, NodeError> {
        let envelope = |entry: &&Entry| match entry.key.as_str() {
            "apiVersion" | "kind" => false,
            "status" => kind == Kind::Pod,
            _ => true,
        };
        let body = match &root.value {
            Value::Map(entries) => Value::Map(entries.iter().filter(envelope).cloned().collect()),
            other => other.clone(),
        };
        let body = Node { at: root.at, value: body };
        let mut object = read_as(kind, version, &body)?;
        let metadata = object.metadata_mut();
        if !kind.namespaced() {
            metadata.namespace.clear();
        } else if metadata.namespace.is_empty() {
            DEFAULT_NAMESPACE.clone_into(&mut metadata.namespace);
        }
        check::invalid(&object).map_err(|(field, message)| NodeError::invalid(&field, message, root))?;
        Ok(object)
    }
}

/// As it would be written in a manifest of the storage version.
impl Serialize for Object {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let serde_json::Value::Object(fields) = self.fields().map_err(S::Error::custom)? else {
            return Err(S::Error::custom("an object is a map"));
        };
        let mut map = serializer.serialize_map(Some(fields.len() + 2))?;
        map.serialize_entry("apiVersion", &self.kind().api_version())?;
        map.serialize_entry("kind", self.kind().as_str())?;
        for (key, value) in &fields {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
