//! The messages of Istio's own filters, which istiod sends to every sidecar.
//!
//! What they make a proxy do is decided by the filters that read them.

/// Package `stats`: metrics of the `istio.stats` filter, HTTP and TCP.
///
/// Source: `source/extensions/filters/http/istio_stats/config.proto` in istio/proxy.
pub mod stats {
    use std::collections::HashMap;

    use envoy_types::pb::google::protobuf::Duration;

    /// Changes one metric, or all of them when `name` is empty.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct MetricConfig {
        /// Label name to the expression of its value; takes the place of a label of that name.
        #[prost(map = "string, string", tag = "1")]
        pub dimensions: HashMap<String, String>,
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(string, repeated, tag = "3")]
        pub tags_to_remove: Vec<String>,
        #[prost(string, tag = "4")]
        pub r#match: String,
        /// The metric is not reported at all.
        #[prost(bool, tag = "5")]
        pub drop: bool,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum MetricType {
        Counter = 0,
        Gauge = 1,
        Histogram = 2,
    }

    /// A metric of the user's own.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct MetricDefinition {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub value: String,
        #[prost(enumeration = "MetricType", tag = "3")]
        pub r#type: i32,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
    #[repr(i32)]
    pub enum Reporter {
        /// Source or destination, by the listener's direction.
        Unspecified = 0,
        ServerGateway = 1,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PluginConfig {
        /// Do not take the destination from the Host header when the cluster does not say it.
        #[prost(bool, tag = "6")]
        pub disable_host_header_fallback: bool,
        /// How often the bytes of open TCP connections are reported; 15 s by default.
        #[prost(message, optional, tag = "7")]
        pub tcp_reporting_duration: Option<Duration>,
        #[prost(message, repeated, tag = "8")]
        pub metrics: Vec<MetricConfig>,
        #[prost(message, repeated, tag = "9")]
        pub definitions: Vec<MetricDefinition>,
        #[prost(enumeration = "Reporter", tag = "10")]
        pub reporter: i32,
        #[prost(message, optional, tag = "11")]
        pub rescoping_duration: Option<Duration>,
        #[prost(message, optional, tag = "12")]
        pub scope_grace_period_duration: Option<Duration>,
    }

    impl prost::Name for PluginConfig {
        const NAME: &'static str = "PluginConfig";
        const PACKAGE: &'static str = "stats";

        fn type_url() -> String {
            crate::type_url::of(&Self::full_name())
        }
    }
}

/// Package `io.istio.http.peer_metadata`: who the other side is, by headers or by xDS.
///
/// Source: `source/extensions/filters/http/peer_metadata/config.proto` in istio/proxy.
pub mod peer_metadata {
    /// `x-envoy-peer-metadata` and `x-envoy-peer-metadata-id`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
    pub struct IstioHeaders {
        /// Not on requests to services outside the mesh.
        #[prost(bool, tag = "1")]
        pub skip_external_clusters: bool,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
    pub struct Baggage {}

    #[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
    pub struct WorkloadDiscovery {}

    #[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
    pub struct DiscoveryMethod {
        #[prost(oneof = "discovery_method::MethodSpecifier", tags = "1, 2, 3")]
        pub method_specifier: Option<discovery_method::MethodSpecifier>,
    }

    pub mod discovery_method {
        #[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Oneof)]
        pub enum MethodSpecifier {
            #[prost(message, tag = "1")]
            Baggage(super::Baggage),
            #[prost(message, tag = "2")]
            WorkloadDiscovery(super::WorkloadDiscovery),
            #[prost(message, tag = "3")]
            IstioHeaders(super::IstioHeaders),
        }
    }

    #[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
    pub struct PropagationMethod {
        #[prost(oneof = "propagation_method::MethodSpecifier", tags = "1")]
        pub method_specifier: Option<propagation_method::MethodSpecifier>,
    }

    pub mod propagation_method {
        #[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Oneof)]
        pub enum MethodSpecifier {
            #[prost(message, tag = "1")]
            IstioHeaders(super::IstioHeaders),
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Config {
        /// How to learn about the caller; the first that succeeds wins.
        #[prost(message, repeated, tag = "1")]
        pub downstream_discovery: Vec<DiscoveryMethod>,
        /// How to learn about the called; the first that succeeds wins.
        #[prost(message, repeated, tag = "2")]
        pub upstream_discovery: Vec<DiscoveryMethod>,
        /// How the caller is told about us (response headers).
        #[prost(message, repeated, tag = "3")]
        pub downstream_propagation: Vec<PropagationMethod>,
        /// How the called is told about us (request headers).
        #[prost(message, repeated, tag = "4")]
        pub upstream_propagation: Vec<PropagationMethod>,
        #[prost(bool, tag = "5")]
        pub shared_with_upstream: bool,
        #[prost(string, repeated, tag = "6")]
        pub additional_labels: Vec<String>,
    }

    impl prost::Name for Config {
        const NAME: &'static str = "Config";
        const PACKAGE: &'static str = "io.istio.http.peer_metadata";

        fn type_url() -> String {
            crate::type_url::of(&Self::full_name())
        }
    }
}

/// Package `envoy.tcp.metadataexchange.config`: metadata of both sides, sent ahead of the bytes of
/// a connection whose ALPN is `protocol`.
///
/// Source: `source/extensions/filters/network/metadata_exchange/config/metadata_exchange.proto` in
/// istio/proxy.
pub mod metadata_exchange {
    #[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
    pub struct MetadataExchange {
        /// The ALPN name; istiod sends `istio-peer-exchange`.
        #[prost(string, tag = "1")]
        pub protocol: String,
        /// Use workload discovery when the other side sends nothing.
        #[prost(bool, tag = "2")]
        pub enable_discovery: bool,
        #[prost(string, repeated, tag = "3")]
        pub additional_labels: Vec<String>,
    }

    impl prost::Name for MetadataExchange {
        const NAME: &'static str = "MetadataExchange";
        const PACKAGE: &'static str = "envoy.tcp.metadataexchange.config";

        fn type_url() -> String {
            crate::type_url::of(&Self::full_name())
        }
    }
}

/// Package `istio.envoy.config.filter.http.alpn.v2alpha1`: the ALPN to offer upstream, by the
/// protocol of the upstream request.
///
/// Source: `envoy/config/filter/http/alpn/v2alpha1/config.proto` in istio/api.
pub mod alpn {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct FilterConfig {
        #[prost(message, repeated, tag = "1")]
        pub alpn_override: Vec<filter_config::AlpnOverride>,
    }

    pub mod filter_config {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
        #[repr(i32)]
        pub enum Protocol {
            Http10 = 0,
            Http11 = 1,
            Http2 = 2,
        }

        #[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
        pub struct AlpnOverride {
            #[prost(enumeration = "Protocol", tag = "1")]
            pub upstream_protocol: i32,
            /// What is offered, most wanted first.
            #[prost(string, repeated, tag = "2")]
            pub alpn_override: Vec<String>,
        }
    }

    impl prost::Name for FilterConfig {
        const NAME: &'static str = "FilterConfig";
        const PACKAGE: &'static str = "istio.envoy.config.filter.http.alpn.v2alpha1";

        fn type_url() -> String {
            crate::type_url::of(&Self::full_name())
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use prost::{Message as _, Name as _};

    #[test]
    fn alpn_as_istiod_sends_it() {
        let sent = "CiESDmlzdGlvLWh0dHAvMS4wEgVpc3RpbxIIaHR0cC8xLjAKIwgBEg5pc3Rpby1odHRwLzEuMRIFaXN0aW8SCGh0dHAvMS4xChcIAhIIaXN0aW8taDISBWlzdGlvEgJoMg==";
        let bytes = base64::engine::general_purpose::STANDARD.decode(sent).unwrap();
        let config = super::alpn::FilterConfig::decode(bytes.as_slice()).unwrap();
        let offered: Vec<_> =
            config.alpn_override.iter().map(|o| (o.upstream_protocol, o.alpn_override.join(","))).collect();
        let expected =
            [(0, "istio-http/1.0,istio,http/1.0"), (1, "istio-http/1.1,istio,http/1.1"), (2, "istio-h2,istio,h2")];
        assert_eq!(offered, expected.map(|(protocol, names)| (protocol, names.to_owned())));
    }

    #[test]
    fn names() {
        assert_eq!(super::stats::PluginConfig::type_url(), "type.googleapis.com/stats.PluginConfig");
        assert_eq!(super::peer_metadata::Config::full_name(), "io.istio.http.peer_metadata.Config");
    }

    #[test]
    fn stats_as_istiod_sends_it() {
        let config = super::stats::PluginConfig::decode([0x30, 1].as_slice()).unwrap();
        assert!(config.disable_host_header_fallback);
    }
}
