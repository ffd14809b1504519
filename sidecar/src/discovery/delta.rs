//! The incremental protocol: requests and responses carry only what changes.
//! Source: Envoy's xDS protocol page, "Incremental xDS".

use std::collections::{BTreeMap, BTreeSet, HashMap};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::rpc::Status;
use xds::type_url;

use super::{Change, Fetched, Interest, Verdict};
use crate::config::duration;

const INVALID_ARGUMENT: i32 = 3;

struct Subscription {
    interest: Interest,
    /// The version held of each resource.
    versions: BTreeMap<String, String>,
    /// The response that waits for its verdict.
    pending: Option<Pending>,
}

struct Pending {
    nonce: String,
    versions: Vec<(String, String)>,
    removed: Vec<String>,
}

/// One stream's state.
pub struct Delta {
    node: Node,
    node_on_first_only: bool,
    node_sent: bool,
    subscriptions: BTreeMap<String, Subscription>,
}

impl Delta {
    pub fn new(node: Node, node_on_first_only: bool) -> Self {
        Delta { node, node_on_first_only, node_sent: false, subscriptions: BTreeMap::new() }
    }

    /// Changes what is wanted of a type; the request to send, if anything changed.
    pub fn want(&mut self, type_url: &str, interest: Interest) -> Option<DeltaDiscoveryRequest> {
        let (added, dropped) = match self.subscriptions.get_mut(type_url) {
            None => {
                let added = names_of(&interest);
                let subscription = Subscription { interest, versions: BTreeMap::new(), pending: None };
                self.subscriptions.insert(type_url.to_owned(), subscription);
                (added, Vec::new())
            }
            Some(subscription) if subscription.interest == interest => return None,
            Some(subscription) => {
                let (old, new) = (names_of(&subscription.interest), names_of(&interest));
                subscription.interest = interest;
                let dropped: Vec<String> = old.iter().filter(|n| !new.contains(n)).cloned().collect();
                dropped.iter().for_each(|name| {
                    subscription.versions.remove(name);
                });
                (new.into_iter().filter(|n| !old.contains(n)).collect(), dropped)
            }
        };
        let mut request = self.request(type_url);
        request.resource_names_subscribe = added;
        request.resource_names_unsubscribe = dropped;
        Some(request)
    }

    /// A new stream: tells what is wanted and what is held.
    pub fn restart(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.node_sent = false;
        self.subscriptions.values_mut().for_each(|s| s.pending = None);
        let mut types: Vec<String> = self.subscriptions.keys().cloned().collect();
        let order = |t: &String| type_url::MAKE_BEFORE_BREAK.iter().position(|k| k == t).unwrap_or(usize::MAX);
        types.sort_by_key(order);
        types.iter().map(|t| self.first(t)).collect()
    }

    fn first(&mut self, type_url: &str) -> DeltaDiscoveryRequest {
        let mut request = self.request(type_url);
        if let Some(subscription) = self.subscriptions.get(type_url) {
            request.resource_names_subscribe = names_of(&subscription.interest);
            request.initial_resource_versions =
                subscription.versions.iter().map(|(n, v)| (n.clone(), v.clone())).collect::<HashMap<_, _>>();
        }
        request
    }

    /// Reads a response.
    ///
    /// # Errors
    /// The response is for a type nobody asked for.
    pub fn received(&mut self, response: DeltaDiscoveryResponse) -> Result<Change, String> {
        let Some(subscription) = self.subscriptions.get_mut(&response.type_url) else {
            return Err(format!("no subscription for {}", response.type_url));
        };
        let resources: Vec<Fetched> = response
            .resources
            .into_iter()
            .filter_map(|r| {
                let ttl = duration(r.ttl.as_ref());
                // A resource without content is a heartbeat: it renews the time to live.
                Some(Fetched { name: r.name, version: r.version, resource: r.resource?, ttl })
            })
            .collect();
        subscription.pending = Some(Pending {
            nonce: response.nonce,
            versions: resources.iter().map(|r| (r.name.clone(), r.version.clone())).collect(),
            removed: response.removed_resources.clone(),
        });
        Ok(Change {
            type_url: response.type_url,
            version: response.system_version_info,
            full: false,
            resources,
            removed: response.removed_resources,
        })
    }

    /// The ACK or NACK of the type's last response. Versions are held from an ACK only.
    pub fn answer(&mut self, type_url: &str, verdict: &Verdict) -> Option<DeltaDiscoveryRequest> {
        let pending = self.subscriptions.get_mut(type_url)?.pending.take()?;
        if verdict.is_ok() {
            let subscription = self.subscriptions.get_mut(type_url)?;
            subscription.versions.extend(pending.versions);
            pending.removed.iter().for_each(|name| {
                subscription.versions.remove(name);
            });
        }
        let mut request = self.request(type_url);
        request.response_nonce = pending.nonce;
        request.error_detail = verdict.as_ref().err().map(|message| Status {
            code: INVALID_ARGUMENT,
            message: message.clone(),
            details: Vec::new(),
        });
        Some(request)
    }

    fn request(&mut self, type_url: &str) -> DeltaDiscoveryRequest {
        let with_node = !self.node_on_first_only || !self.node_sent;
        self.node_sent = true;
        DeltaDiscoveryRequest {
            node: with_node.then(|| self.node.clone()),
            type_url: type_url.to_owned(),
            ..Default::default()
        }
    }
}

fn names_of(interest: &Interest) -> Vec<String> {
    match interest {
        // A first request without names is a wildcard one.
        Interest::Wildcard => Vec::new(),
        Interest::Names(names) => names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::service::discovery::v3::Resource;
    use envoy_types::pb::google::protobuf::Any;

    #[test]
    fn only_changes_travel() {
        const EDS: &str = type_url::CLUSTER_LOAD_ASSIGNMENT;
        let mut delta = Delta::new(Node::default(), true);
        let first = delta.want(EDS, Interest::names(["a", "b"])).unwrap();
        assert_eq!(first.resource_names_subscribe, ["a", "b"]);
        let second = delta.want(EDS, Interest::names(["b", "c"])).unwrap();
        assert_eq!(
            (second.resource_names_subscribe, second.resource_names_unsubscribe),
            (vec!["c".to_owned()], vec!["a".to_owned()])
        );
        let resource = |name: &str, version: &str| Resource {
            name: name.to_owned(),
            version: version.to_owned(),
            resource: Some(Any::default()),
            ..Default::default()
        };
        let response = |nonce: &str, resources, removed: &[&str]| DeltaDiscoveryResponse {
            type_url: EDS.to_owned(),
            nonce: nonce.to_owned(),
            resources,
            removed_resources: removed.iter().map(|s| (*s).to_owned()).collect(),
            ..Default::default()
        };
        delta.received(response("n1", vec![resource("b", "1"), resource("c", "1")], &[])).unwrap();
        assert_eq!(delta.answer(EDS, &Ok(())).unwrap().response_nonce, "n1");
        delta.received(response("n2", vec![resource("b", "2")], &["c"])).unwrap();
        assert!(delta.answer(EDS, &Err("bad".into())).unwrap().error_detail.is_some());
        let again = delta.restart().remove(0);
        let held: BTreeMap<_, _> = again.initial_resource_versions.into_iter().collect();
        assert_eq!(held, BTreeMap::from([("b".into(), "1".into()), ("c".into(), "1".into())]));
        assert_eq!(again.resource_names_subscribe, ["b", "c"]);
    }
}
