//! What is known about one connection and one request or TCP session, from accept to access log.
//!
//! A stream belongs to one worker thread, so its facts are cells; whoever learns one writes it down
//! here, and filters, formatters, access logs and spans read it.

use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use crate::error::ResponseFlags;
use crate::net::Address;
use crate::observe::workload::Told;

/// The application protocol of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Http10,
    Http11,
    Http2,
}

impl Protocol {
    /// As `%PROTOCOL%` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }
    }

    pub fn is_http2(self) -> bool {
        self == Protocol::Http2
    }
}

/// What a certificate says, parsed once per connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFacts {
    /// RFC 2253 form, as Envoy prints it: `CN=a,O=b`.
    pub subject: String,
    pub issuer: String,
    /// Serial number in lower-case hex.
    pub serial: String,
    /// SHA-256 of the DER form, lower-case hex.
    pub sha256: String,
    /// SHA-1 of the DER form, lower-case hex.
    pub sha1: String,
    pub uri_sans: Vec<String>,
    pub dns_sans: Vec<String>,
    pub ip_sans: Vec<String>,
    pub email_sans: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    /// The certificate's DER form, then those of the chain that came with it.
    pub der: Vec<Arc<[u8]>>,
    pub(crate) pem: OnceLock<String>,
    pub(crate) pem_chain: OnceLock<String>,
}

impl CertificateFacts {
    /// The PEM form with percent-encoding, as XFCC's `Cert=` and `%DOWNSTREAM_PEER_CERT%` want it.
    pub fn url_encoded_pem(&self) -> &str {
        self.pem.get_or_init(|| self.der.first().map(|der| url_encoded_pem(der)).unwrap_or_default())
    }

    /// The whole chain, likewise.
    pub fn url_encoded_chain(&self) -> &str {
        self.pem_chain.get_or_init(|| self.der.iter().map(|der| url_encoded_pem(der)).collect())
    }
}

/// PEM with lines of 64 characters, where only unreserved characters stay as they are.
/// Source: Envoy's `Extensions::TransportSockets::Tls::Utility::percentEncode` of the PEM text.
fn url_encoded_pem(der: &[u8]) -> String {
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = String::from("-----BEGIN%20CERTIFICATE-----%0A");
    for (at, c) in base64.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push_str("%0A");
        }
        match c {
            '+' => text.push_str("%2B"),
            '/' => text.push_str("%2F"),
            '=' => text.push_str("%3D"),
            c => text.push(c),
        }
    }
    text.push_str("%0A-----END%20CERTIFICATE-----%0A");
    text
}

/// One side's view of a TLS session.
#[derive(Clone, Debug, Default)]
pub struct TlsInfo {
    /// The server name asked for; empty if none.
    pub sni: String,
    /// The ALPN protocol agreed on; empty if none.
    pub alpn: String,
    /// `TLSv1.3`.
    pub version: String,
    /// OpenSSL's name, as Envoy prints it: `TLS_AES_128_GCM_SHA256`.
    pub cipher: String,
    /// Hex.
    pub session_id: String,
    /// The peer's certificate, if it showed one.
    pub peer: Option<Arc<CertificateFacts>>,
    /// Was the peer's certificate checked against a trusted CA?
    pub peer_validated: bool,
    /// Our own certificate.
    pub local: Option<Arc<CertificateFacts>>,
}

/// What one downstream connection is. Set up once, shared by its streams.
#[derive(Debug)]
pub struct Connection {
    /// Unique in this process (`%CONNECTION_ID%`).
    pub id: u64,
    pub start: Instant,
    /// The socket's peer.
    pub direct_remote: Address,
    /// The peer after proxy_protocol or original_src.
    pub remote: Address,
    /// The socket's local address before the original destination was restored.
    pub direct_local: Address,
    /// The local address, which is the original destination where it was restored.
    pub local: Address,
    /// Was `local` restored from a redirect?
    pub local_restored: bool,
    pub tls: Option<Arc<TlsInfo>>,
    pub listener_metadata: Arc<Metadata>,
    /// The name of the filter chain that serves it.
    pub filter_chain: Arc<str>,
    /// SNI seen by tls_inspector, whether TLS is terminated here or not (`%REQUESTED_SERVER_NAME%`).
    pub inspected_sni: String,
    /// Who the caller's proxy says it is, ahead of the connection's bytes.
    pub told: Told,
    /// JA3 etc. would go here; the transport protocol that was detected: `tls` or `raw_buffer`.
    pub transport_protocol: &'static str,
    /// Why the connection was ended by us (`%CONNECTION_TERMINATION_DETAILS%`).
    pub termination_details: RefCell<Option<Cow<'static, str>>>,
    /// Why TLS failed (`%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`).
    pub transport_failure: RefCell<Option<String>>,
    pub kept: Kept,
}

/// What filters keep for as long as a connection stands, each by a number of its own.
#[derive(Default)]
pub struct Kept(RefCell<BTreeMap<u64, Rc<dyn Any>>>);

impl Kept {
    /// What is kept by this number, made if it is not there.
    pub fn get_or<T: Any>(&self, number: u64, make: impl Fn() -> T) -> Rc<T> {
        let mut all = self.0.borrow_mut();
        let kept = all.entry(number).or_insert_with(|| Rc::new(make())).clone();
        kept.downcast().unwrap_or_else(|_| Rc::new(make()))
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&self.0.borrow().len()).finish()
    }
}

impl Connection {
    /// The name the caller asked TLS for. As in Envoy it is known only where tls_inspector ran.
    pub fn sni(&self) -> &str {
        &self.inspected_sni
    }

    pub fn peer(&self) -> Option<&Arc<CertificateFacts>> {
        self.tls.as_ref()?.peer.as_ref()
    }
}

/// The upstream half of a stream; each try writes over what the last one left.
#[derive(Debug, Default)]
pub struct Upstream {
    pub cluster: RefCell<Option<Arc<str>>>,
    pub cluster_metadata: RefCell<Option<Arc<Metadata>>>,
    /// The address the load balancer chose.
    pub host: RefCell<Option<Address>>,
    /// The host's `hostname` field, where it has one.
    pub hostname: RefCell<Option<Arc<str>>>,
    /// The endpoint's locality zone and metadata are found through this index of the host.
    pub host_metadata: RefCell<Option<Arc<crate::stream::Metadata>>>,
    pub local_address: Cell<Option<SocketAddr>>,
    pub protocol: Cell<Option<Protocol>>,
    pub tls: RefCell<Option<Arc<TlsInfo>>>,
    /// Tries made, 0 when none was.
    pub attempts: Cell<u32>,
    pub transport_failure: RefCell<Option<String>>,
    /// When the first byte of this try went out, and when it came.
    pub first_byte_sent: Cell<Option<Instant>>,
    pub last_byte_sent: Cell<Option<Instant>>,
    pub first_byte_received: Cell<Option<Instant>>,
    pub last_byte_received: Cell<Option<Instant>>,
    pub bytes_sent: Cell<u64>,
    pub bytes_received: Cell<u64>,
    pub connection_id: Cell<Option<u64>>,
    /// Who the called proxy says it is, ahead of the connection's bytes.
    pub told: RefCell<Told>,
}

/// Dynamic metadata: filter namespace → JSON object.
pub type Metadata = BTreeMap<String, serde_json::Value>;

/// One request, or one TCP session.
#[derive(Debug)]
pub struct Stream {
    pub connection: Rc<Connection>,
    pub start: Instant,
    pub start_time: SystemTime,
    pub protocol: Cell<Option<Protocol>>,
    /// The caller's address as trusted: from x-forwarded-for or the connection.
    pub remote: RefCell<Address>,
    pub response_code: Cell<Option<u16>>,
    pub response_flags: Cell<ResponseFlags>,
    pub response_code_details: RefCell<Option<Cow<'static, str>>>,
    /// Body bytes from and to the caller.
    pub bytes_received: Cell<u64>,
    pub bytes_sent: Cell<u64>,
    /// Header bytes likewise, as far as known.
    pub header_bytes_received: Cell<u64>,
    pub header_bytes_sent: Cell<u64>,
    pub request_complete: Cell<Option<Instant>>,
    pub first_byte_sent: Cell<Option<Instant>>,
    pub end: Cell<Option<Instant>>,
    pub upstream: Upstream,
    pub route_name: RefCell<Option<Arc<str>>>,
    pub route_metadata: RefCell<Option<Arc<Metadata>>>,
    pub virtual_host: RefCell<Option<Arc<str>>>,
    pub virtual_cluster: RefCell<Option<Arc<str>>>,
    pub request_id: OnceCell<String>,
    pub trace_id: RefCell<Option<String>>,
    pub dynamic_metadata: RefCell<Metadata>,
    pub filter_state: RefCell<BTreeMap<String, String>>,
    /// Is the caller inside the mesh's own network, as Envoy decides it (`x-envoy-internal`)?
    pub internal: Cell<bool>,
    pub health_check: Cell<bool>,
}

impl Stream {
    pub fn new(connection: Rc<Connection>) -> Self {
        let remote = RefCell::new(connection.remote.clone());
        Stream {
            connection,
            start: Instant::now(),
            start_time: SystemTime::now(),
            protocol: Cell::default(),
            remote,
            response_code: Cell::default(),
            response_flags: Cell::default(),
            response_code_details: RefCell::default(),
            bytes_received: Cell::default(),
            bytes_sent: Cell::default(),
            header_bytes_received: Cell::default(),
            header_bytes_sent: Cell::default(),
            request_complete: Cell::default(),
            first_byte_sent: Cell::default(),
            end: Cell::default(),
            upstream: Upstream::default(),
            route_name: RefCell::default(),
            route_metadata: RefCell::default(),
            virtual_host: RefCell::default(),
            virtual_cluster: RefCell::default(),
            request_id: OnceCell::new(),
            trace_id: RefCell::default(),
            dynamic_metadata: RefCell::default(),
            filter_state: RefCell::default(),
            internal: Cell::default(),
            health_check: Cell::default(),
        }
    }

    pub fn add_flags(&self, flags: ResponseFlags) {
        self.response_flags.set(self.response_flags.get().union(flags));
    }

    pub fn set_details(&self, details: impl Into<Cow<'static, str>>) {
        *self.response_code_details.borrow_mut() = Some(details.into());
    }

    /// Writes one value of dynamic metadata.
    pub fn set_metadata(&self, namespace: &str, key: &str, value: serde_json::Value) {
        let mut all = self.dynamic_metadata.borrow_mut();
        let entry = all.entry(namespace.to_owned()).or_insert_with(|| serde_json::Value::Object(Default::default()));
        if let serde_json::Value::Object(map) = entry {
            map.insert(key.to_owned(), value);
        }
    }
}
