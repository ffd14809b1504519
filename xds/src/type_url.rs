//! Type URLs: the names under which resources travel in xDS.
//!
//! Source: each service's `resource` annotation in Envoy's `envoy/service/*/v3/*.proto`.

/// What every type URL begins with.
pub const PREFIX: &str = "type.googleapis.com/";

pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
pub const ROUTE_CONFIGURATION: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
pub const SCOPED_ROUTE_CONFIGURATION: &str = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration";
pub const VIRTUAL_HOST: &str = "type.googleapis.com/envoy.config.route.v3.VirtualHost";
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub const CLUSTER_LOAD_ASSIGNMENT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// One locality's or host's endpoints, of a `LocalityLbEndpoints` collection (EDS over LEDS).
pub const LB_ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.LbEndpoint";
pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
pub const RUNTIME: &str = "type.googleapis.com/envoy.service.runtime.v3.Runtime";
/// Extension configuration discovery (ECDS).
pub const TYPED_EXTENSION_CONFIG: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";

/// The order in which a state-of-the-world server sends types, so that what is named is known
/// before what names it (make before break).
///
/// Source: "Eventual consistency considerations" in Envoy's xDS protocol page.
pub const MAKE_BEFORE_BREAK: [&str; 10] = [
    SECRET,
    RUNTIME,
    CLUSTER,
    CLUSTER_LOAD_ASSIGNMENT,
    LB_ENDPOINT,
    TYPED_EXTENSION_CONFIG,
    LISTENER,
    SCOPED_ROUTE_CONFIGURATION,
    ROUTE_CONFIGURATION,
    VIRTUAL_HOST,
];

/// The full message name in a type URL: what follows the last `/`, or all of it if there is none.
///
/// Source: `Any.type_url` in `google/protobuf/any.proto`; Envoy's `TypeUtil::typeUrlToDescriptorFullName`.
pub fn message_name(type_url: &str) -> &str {
    type_url.rsplit_once('/').map_or(type_url, |(_, name)| name)
}

/// The type URL of a full message name.
pub fn of(message_name: &str) -> String {
    format!("{PREFIX}{message_name}")
}

/// The short name used in pages and logs (`LDS`, `CDS`, …), or the message name of another type.
pub fn short(type_url: &str) -> &str {
    match type_url {
        LISTENER => "LDS",
        ROUTE_CONFIGURATION => "RDS",
        SCOPED_ROUTE_CONFIGURATION => "SRDS",
        VIRTUAL_HOST => "VHDS",
        CLUSTER => "CDS",
        CLUSTER_LOAD_ASSIGNMENT => "EDS",
        LB_ENDPOINT => "LEDS",
        SECRET => "SDS",
        RUNTIME => "RTDS",
        TYPED_EXTENSION_CONFIG => "ECDS",
        other => message_name(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_urls() {
        assert_eq!(message_name(LISTENER), "envoy.config.listener.v3.Listener");
        assert_eq!(message_name("x.Y"), "x.Y");
        assert_eq!(of("x.Y"), "type.googleapis.com/x.Y");
        assert_eq!(short(SECRET), "SDS");
        assert_eq!(short("type.googleapis.com/x.Y"), "x.Y");
    }
}
