//! Which protocol a Service's port speaks.
//!
//! Source: Istio, "Protocol Selection": `appProtocol`, else the port name's prefix up to the first `-`, else detected.

/// The protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 where callers begin it.
    Http,
    /// HTTP/2 in cleartext.
    Http2,
    /// gRPC, on HTTP/2.
    Grpc,
    /// gRPC-Web, on HTTP/1.1.
    GrpcWeb,
    /// Opaque bytes, TLS of the application's own among them.
    Tcp,
    /// Not said: found out on each connection.
    #[default]
    Detected,
}

impl Protocol {
    /// The protocol of a Service's or Workload's port.
    #[must_use]
    pub fn of(app_protocol: Option<&str>, name: &str) -> Self {
        // `grpc-web` is the one word with a `-` of its own.
        let word = if name == "grpc-web" || name.starts_with("grpc-web-") { "grpc-web" } else { before_dash(name) };
        app_protocol.and_then(Self::named).or_else(|| Self::named(word)).unwrap_or_default()
    }

    /// Source: Istio `pkg/config/protocol.Parse`, and Kubernetes' standard names for `appProtocol` (KEP-3726).
    fn named(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "http" | "kubernetes.io/ws" => Self::Http,
            "http2" | "h2c" | "kubernetes.io/h2c" => Self::Http2,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "tcp" | "tls" | "https" | "hbone" | "mongo" | "mysql" | "redis" | "kubernetes.io/wss" => Self::Tcp,
            _ => return None,
        })
    }

    /// Whether it is HTTP of some kind, so that requests can be told apart. A detected one may be.
    #[must_use]
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Whether the application itself must be called by HTTP/2.
    #[must_use]
    pub const fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }
}

fn before_dash(name: &str) -> &str {
    name.split('-').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_and_app_protocol() {
        let cases = [
            (None, "http", Protocol::Http),
            (None, "http-admin", Protocol::Http),
            (None, "http2-x", Protocol::Http2),
            (None, "grpc", Protocol::Grpc),
            (None, "grpc-web", Protocol::GrpcWeb),
            (None, "grpc-web-x", Protocol::GrpcWeb),
            (None, "grpc-cart", Protocol::Grpc),
            (None, "tcp-db", Protocol::Tcp),
            (None, "mysql", Protocol::Tcp),
            (None, "httpx", Protocol::Detected),
            (None, "", Protocol::Detected),
            (Some("kubernetes.io/h2c"), "http", Protocol::Http2),
            (Some("HTTP"), "tcp", Protocol::Http),
            (Some("example.com/own"), "tcp", Protocol::Tcp),
        ];
        for (app, name, expected) in cases {
            assert_eq!(Protocol::of(app, name), expected, "{app:?} {name}");
        }
    }
}
