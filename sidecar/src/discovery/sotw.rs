//! The state-of-the-world protocol: each request names all that is wanted, each response has all of it
//! (clusters, listeners) or all that changed (the rest).
//! Source: Envoy's xDS protocol page, "Resource hints", "ACK, NACK, and resource type instance version".

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::google::rpc::Status;
use xds::type_url;

use super::resource::fetched;
use super::{Change, Interest, Verdict};

/// gRPC's INVALID_ARGUMENT: what Envoy says of a bad resource.
const INVALID_ARGUMENT: i32 = 3;

struct Subscription {
    interest: Interest,
    /// The last accepted version; survives reconnects.
    version: String,
    /// The last response's nonce; belongs to one stream.
    nonce: String,
}

/// One stream's state.
pub struct Sotw {
    node: Node,
    node_on_first_only: bool,
    node_sent: bool,
    subscriptions: BTreeMap<String, Subscription>,
}

impl Sotw {
    pub fn new(node: Node, node_on_first_only: bool) -> Self {
        Sotw { node, node_on_first_only, node_sent: false, subscriptions: BTreeMap::new() }
    }

    /// Changes what is wanted of a type; the request to send, if anything changed.
    pub fn want(&mut self, type_url: &str, interest: Interest) -> Option<DiscoveryRequest> {
        match self.subscriptions.get_mut(type_url) {
            Some(subscription) if subscription.interest == interest => return None,
            Some(subscription) => subscription.interest = interest,
            None => {
                let subscription = Subscription { interest, version: String::new(), nonce: String::new() };
                self.subscriptions.insert(type_url.to_owned(), subscription);
            }
        }
        self.request(type_url, None)
    }

    /// A new stream: everything is asked for again, with the versions that are held.
    pub fn restart(&mut self) -> Vec<DiscoveryRequest> {
        self.node_sent = false;
        self.subscriptions.values_mut().for_each(|s| s.nonce.clear());
        let mut types: Vec<String> = self.subscriptions.keys().cloned().collect();
        let order = |t: &String| type_url::MAKE_BEFORE_BREAK.iter().position(|k| k == t).unwrap_or(usize::MAX);
        types.sort_by_key(order);
        types.iter().filter_map(|t| self.request(t, None)).collect()
    }

    /// Reads a response; the nonce is remembered for the answer.
    ///
    /// # Errors
    /// The response is for a type nobody asked for, or can't be read: its nonce is still answered.
    pub fn received(&mut self, response: DiscoveryResponse) -> Result<Change, String> {
        let Some(subscription) = self.subscriptions.get_mut(&response.type_url) else {
            return Err(format!("no subscription for {}", response.type_url));
        };
        subscription.nonce = response.nonce;
        let full = matches!(response.type_url.as_str(), type_url::LISTENER | type_url::CLUSTER);
        let mut resources = Vec::with_capacity(response.resources.len());
        for any in response.resources {
            let resource = fetched(any, &response.version_info)?;
            let wanted = match &subscription.interest {
                Interest::Wildcard => true,
                Interest::Names(names) => names.contains(&resource.name),
            };
            if wanted {
                resources.push(resource);
            }
        }
        Ok(Change { type_url: response.type_url, version: response.version_info, full, resources, removed: Vec::new() })
    }

    /// The ACK or NACK of the type's last response.
    pub fn answer(&mut self, type_url: &str, version: &str, verdict: &Verdict) -> Option<DiscoveryRequest> {
        if verdict.is_ok() {
            self.subscriptions.get_mut(type_url)?.version = version.to_owned();
        }
        self.request(type_url, verdict.as_ref().err().cloned())
    }

    fn request(&mut self, type_url: &str, error: Option<String>) -> Option<DiscoveryRequest> {
        let subscription = self.subscriptions.get(type_url)?;
        let with_node = !self.node_on_first_only || !self.node_sent;
        self.node_sent = true;
        Some(DiscoveryRequest {
            version_info: subscription.version.clone(),
            node: with_node.then(|| self.node.clone()),
            resource_names: match &subscription.interest {
                Interest::Wildcard => Vec::new(),
                Interest::Names(names) => names.iter().cloned().collect(),
            },
            type_url: type_url.to_owned(),
            response_nonce: subscription.nonce.clone(),
            error_detail: error.map(|message| Status { code: INVALID_ARGUMENT, message, details: Vec::new() }),
            ..Default::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use envoy_types::pb::google::protobuf::Any;
    use prost::{Message, Name};

    fn response(version: &str, nonce: &str, names: &[&str]) -> DiscoveryResponse {
        let resources = names
            .iter()
            .map(|name| {
                let value = ClusterLoadAssignment { cluster_name: (*name).to_owned(), ..Default::default() };
                Any { type_url: ClusterLoadAssignment::type_url(), value: value.encode_to_vec() }
            })
            .collect();
        DiscoveryResponse {
            version_info: version.to_owned(),
            nonce: nonce.to_owned(),
            type_url: type_url::CLUSTER_LOAD_ASSIGNMENT.to_owned(),
            resources,
            ..Default::default()
        }
    }

    #[test]
    fn versions_nonces_and_names() {
        const EDS: &str = type_url::CLUSTER_LOAD_ASSIGNMENT;
        let mut sotw = Sotw::new(Node::default(), true);
        let first = sotw.want(EDS, Interest::names(["a"])).unwrap();
        assert_eq!((first.node.is_some(), first.resource_names.as_slice()), (true, &["a".to_owned()][..]));
        assert!(sotw.want(EDS, Interest::names(["a"])).is_none());

        let change = sotw.received(response("1", "n1", &["a", "stray"])).unwrap();
        assert_eq!(change.resources.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["a"]);
        let ack = sotw.answer(EDS, "1", &Ok(())).unwrap();
        assert_eq!((ack.version_info.as_str(), ack.response_nonce.as_str(), ack.node.is_some()), ("1", "n1", false));

        sotw.received(response("2", "n2", &["a"])).unwrap();
        let nack = sotw.answer(EDS, "2", &Err("bad".to_owned())).unwrap();
        assert_eq!((nack.version_info.as_str(), nack.response_nonce.as_str()), ("1", "n2"));
        assert_eq!(nack.error_detail.unwrap().message, "bad");

        let again = sotw.restart();
        assert_eq!((again[0].version_info.as_str(), again[0].response_nonce.as_str()), ("1", ""));
        assert!(again[0].node.is_some());
    }
}
