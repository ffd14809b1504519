//! An authority and identities of a mesh, as files; and callers of its sidecars.

#![allow(clippy::unwrap_used, dead_code)] // Each test is a program of its own, and none uses all of it.

use std::path::PathBuf;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Certificates of `spiffe://mesh/NAME`, signed by one authority.
pub struct Mesh {
    folder: PathBuf,
}

impl Mesh {
    pub fn new(test: &str, names: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("outrigger-mesh-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        std::fs::write(folder.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        for name in names {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
            params.subject_alt_names = vec![rcgen::SanType::URI(format!("spiffe://mesh/{name}").try_into().unwrap())];
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(folder.join(format!("{name}.crt")), certificate.pem()).unwrap();
            std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Mesh { folder }
    }

    /// A file of the mesh's own, gone with it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn context(&self, name: &str, alpn: &str) -> String {
        let file = |end: &str| self.file(end).display().to_string();
        let (certificate, key, ca) = (file(&format!("{name}.crt")), file(&format!("{name}.key")), file("ca.crt"));
        format!(
            "common_tls_context: {{alpn_protocols: {alpn}, tls_certificates: [{{certificate_chain: {{filename: \
             {certificate}}}, private_key: {{filename: {key}}}}}], validation_context: {{trusted_ca: {{filename: {ca}}}}}}}"
        )
    }

    /// A transport socket that shows this identity and wants one of the mesh.
    pub fn downstream(&self, name: &str, alpn: &str) -> String {
        let context = self.context(name, alpn);
        let kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
        format!(r#"{{name: tls, typed_config: {{"@type": {kind}, require_client_certificate: true, {context}}}}}"#)
    }

    pub fn upstream(&self, name: &str, alpn: &str) -> String {
        let context = self.context(name, alpn);
        let kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
        format!(r#"{{name: tls, typed_config: {{"@type": {kind}, {context}}}}}"#)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What is answered to a request for a cluster (`x-to`).
pub async fn get(http2: bool, port: u16, path: &str, cluster: &str) -> String {
    let io = TokioIo::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    let request = Request::builder().uri(format!("http://app.test{path}")).header("x-to", cluster);
    let request = request.header("host", "app.test").body(Empty::<Bytes>::new()).unwrap();
    let response = if http2 {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    };
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}
