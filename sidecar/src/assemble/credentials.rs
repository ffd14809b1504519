//! By what the proxy proves who it is: the headers of its bootstrap, and a token as it stands in its file now, since tokens are
//! short-lived and renewed there. A CA beside the management server is shown a token of its own, and never the other's.

use std::sync::Arc;

use tracing::warn;
use xds::node::metadata;

use super::config::{Server, node_text};
use crate::bootstrap::Node;
use crate::discovery::stream::Credentials;

/// What the node's metadata says of CA and tokens.
pub(super) struct Proofs {
    token_file: Option<String>,
    ca: Option<Ca>,
}

struct Ca {
    server: Server,
    /// It is not the management server.
    apart: bool,
    token_file: Option<String>,
}

impl Proofs {
    /// `ads` is the management server. Without one nobody asks for a certificate.
    pub(super) fn new(node: &Node, ads: Option<&Server>) -> Self {
        let ca = ads.zip(node_text(node, metadata::CA)).map(|(ads, cluster)| {
            let apart = ads.cluster != cluster;
            let server = if apart { Server::named(&cluster) } else { ads.clone() };
            Ca { server, apart, token_file: node_text(node, metadata::CA_TOKEN_FILE) }
        });
        Self { token_file: node_text(node, metadata::TOKEN_FILE), ca }
    }

    /// The CA that signs the proxy's own key, if one does.
    pub(super) fn ca(&self) -> Option<Server> {
        self.ca.as_ref().map(|ca| ca.server.clone())
    }

    /// What a server is shown.
    pub(super) fn of(&self, server: &Server) -> Credentials {
        let ca = self.ca.as_ref().filter(|ca| ca.apart && ca.server.cluster == server.cluster);
        let file = ca.map_or(&self.token_file, |ca| &ca.token_file).clone();
        let headers = server.metadata.clone();
        Arc::new(move || with_token(&headers, file.as_deref()))
    }
}

fn with_token(headers: &[(String, String)], file: Option<&str>) -> Vec<(String, String)> {
    let mut headers = headers.to_vec();
    let Some(file) = file else { return headers };
    match std::fs::read_to_string(file) {
        Ok(token) => headers.push(("authorization".to_owned(), format!("Bearer {}", token.trim()))),
        Err(error) => warn!(file, "no token: {error}"),
    }
    headers
}

#[cfg(test)]
mod tests;
