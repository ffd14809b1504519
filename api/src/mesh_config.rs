//! `MeshConfig` (mesh.outrigger.dev/v1alpha1): what holds for the whole mesh. Cluster-wide, one, named `default`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::meta::ObjectMeta;
use crate::scalar::{Percent, TrustDomain};
use crate::traffic_policy::{Retry, Timeout};

/// The one object's name.
pub const NAME: &str = "default";

/// What holds for the whole mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeshConfig {
    /// Named `default`.
    pub metadata: ObjectMeta,
    /// What holds; all of it is optional. Durations are written as in Go: `250ms`, `1m30s`.
    #[serde(default)]
    pub spec: MeshConfigSpec,
}

/// The fields of a [`MeshConfig`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MeshConfigSpec {
    /// The trust domain of all identities. Absent: the pilot's `--trust-domain`, or else `cluster.local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<TrustDomain>,
    /// Whether workloads must call each other by mTLS.
    pub mtls: Mtls,
    /// What a request that no TrafficTarget allows meets; `auto` by default.
    pub access_control: AccessControl,
    /// What a call to a host that no Service names meets; `allow-any` by default.
    pub outbound_policy: OutboundPolicy,
    /// Where spans go. Absent: no tracing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// The sidecars' access logs.
    pub access_log: AccessLog,
    /// For Services without a policy of their own.
    pub defaults: PolicyDefaults,
    /// How SMI is read.
    pub smi: Smi,
    /// Trust domains, besides the mesh's own, whose certificates are accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_trust_domains: Vec<TrustDomain>,
}

/// `mtls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mtls {
    /// What an inbound connection must be; `strict` by default.
    pub mode: MtlsMode,
}

/// What an inbound connection must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MtlsMode {
    /// mTLS with a certificate of the mesh.
    #[default]
    Strict,
    /// mTLS or plaintext; a plaintext caller has no identity.
    Permissive,
    /// Plaintext.
    Disabled,
}

/// What a request that no TrafficTarget allows meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessControl {
    /// It is denied. SMI's own reading.
    Strict,
    /// It is denied where some target names the service account as its destination, else allowed.
    #[default]
    Auto,
    /// Nothing is denied.
    Permissive,
}

/// What a call to a host that no Service names meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutboundPolicy {
    /// The host is called as it is, in plaintext; 503 if it cannot be reached.
    #[default]
    AllowAny,
    /// It is answered with 502.
    RegistryOnly,
}

/// `tracing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tracing {
    /// Where Zipkin v2 JSON is posted: `http://HOST[:PORT]/PATH`, port 80 and `/api/v2/spans` by default.
    pub zipkin: ZipkinUrl,
    /// The share of traces begun here that are kept, 0 to 100; 1 by default.
    #[serde(default = "one_percent")]
    pub sampling: Percent,
}

fn one_percent() -> Percent {
    Percent::new(1.0).unwrap_or_default()
}

/// The URL of a Zipkin collector: `http://HOST[:PORT]/PATH`; the port is 80 by default, the path `/api/v2/spans`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct ZipkinUrl {
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
    /// Begins with `/`.
    pub path: String,
}

/// Why a text is no collector's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad collector URL `{0}`: write it like http://127.0.0.1:9411/api/v2/spans")]
pub struct ZipkinUrlError(String);

impl FromStr for ZipkinUrl {
    type Err = ZipkinUrlError;

    fn from_str(url: &str) -> Result<Self, ZipkinUrlError> {
        let bad = || ZipkinUrlError(url.to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(bad)?;
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) if !path.is_empty() => (authority, format!("/{path}")),
            Some((authority, _)) => (authority, "/api/v2/spans".to_owned()),
            None => (rest, "/api/v2/spans".to_owned()),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(six) => {
                let (host, after) = six.split_once(']').ok_or_else(bad)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (host, after.strip_prefix(':').or(after.is_empty().then_some("80")).ok_or_else(bad)?)
            }
            None => authority.split_once(':').unwrap_or((authority, "80")),
        };
        let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(bad)?;
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(named) || path.contains(char::is_whitespace) {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port, path })
    }
}

impl fmt::Display for ZipkinUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "http://[{}]:{}{}", self.host, self.port, self.path)
        } else {
            write!(f, "http://{}:{}{}", self.host, self.port, self.path)
        }
    }
}

impl Serialize for ZipkinUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ZipkinUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// `accessLog`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// How a line looks; `text` by default.
    pub format: AccessLogFormat,
    /// A file or device; `/dev/stdout` by default.
    pub path: String,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { format: AccessLogFormat::default(), path: "/dev/stdout".to_owned() }
    }
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// Envoy's default line.
    #[default]
    Text,
    /// A JSON object with Istio's keys.
    Json,
    /// There is no log.
    None,
}

/// `defaults`: as in a TrafficPolicy, for Services without their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyDefaults {
    /// Absent: no limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Absent: two more tries where nothing can have happened yet, as `retry: {}` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// `smi`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Smi {
    /// How much of a path an HTTPRouteGroup's regex must match, and of a header; `full` by default.
    pub path_regex: PathRegex,
}

/// How much of a path an HTTPRouteGroup's regex must match; header regexes likewise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PathRegex {
    /// All of it, as Envoy and OSM read it.
    #[default]
    Full,
    /// Its beginning, as the specification's text reads.
    Prefix,
}
