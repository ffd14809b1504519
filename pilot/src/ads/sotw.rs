//! One stream's subscriptions in the state-of-the-world protocol. No I/O.
//!
//! Source: Envoy's "xDS REST and gRPC protocol", "State of the world".

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use xds::{Resource, ResourceSet};

/// What a request said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It is about a response that is no longer the last.
    Stale,
    /// The last response is in force; the names are the same.
    Ack,
    /// The last response was refused.
    Nack(String),
    /// Other resources are wanted than before.
    Subscribed,
}

/// A stream's subscriptions by type.
#[derive(Debug, Default)]
pub(super) struct Sotw {
    types: BTreeMap<String, Subscription>,
    nonces: u64,
}

#[derive(Debug, Default)]
struct Subscription {
    /// `None`: all.
    names: Option<BTreeSet<String>>,
    nonce: String,
    /// The version that was sent last, be it taken or refused.
    sent: Option<String>,
}

impl Sotw {
    /// Whether a type is subscribed to.
    pub(super) fn has(&self, type_url: &str) -> bool {
        self.types.contains_key(type_url)
    }

    /// Takes a request in.
    pub(super) fn request(&mut self, request: &DiscoveryRequest) -> Said {
        let names = request.resource_names.iter().filter(|name| *name != "*").cloned().collect::<BTreeSet<_>>();
        let all =
            super::wildcard(&request.type_url) && (names.is_empty() || names.len() < request.resource_names.len());
        let names = (!all).then_some(names);
        let Some(known) = self.types.get_mut(&request.type_url) else {
            // A proxy that comes back says what it has; where that is still so, nothing needs to be sent.
            let sent = Some(request.version_info.clone()).filter(|version| !version.is_empty());
            self.types.insert(request.type_url.clone(), Subscription { names, nonce: String::new(), sent });
            return Said::Subscribed;
        };
        if !request.response_nonce.is_empty() && request.response_nonce != known.nonce {
            return Said::Stale;
        }
        let grown = match (&known.names, &names) {
            (Some(before), Some(now)) => !now.is_subset(before),
            (before, now) => before != now,
        };
        known.names = names;
        if grown {
            known.sent = None;
        }
        match &request.error_detail {
            Some(error) => Said::Nack(error.message.clone()),
            None if grown => Said::Subscribed,
            None => Said::Ack,
        }
    }

    /// The response for a type, if there is anything new in it or it is to be sent in any case.
    pub(super) fn respond(&mut self, type_url: &str, set: &ResourceSet, force: bool) -> Option<DiscoveryResponse> {
        let subscription = self.types.get_mut(type_url)?;
        let resources: Vec<&Resource> = match &subscription.names {
            None => set.of_type(type_url).into_iter().flat_map(|names| names.values()).collect(),
            Some(names) => names.iter().filter_map(|name| set.get(type_url, name)).collect(),
        };
        // What is asked for by name and is not there is waited for.
        if resources.is_empty() && subscription.names.is_some() {
            return None;
        }
        let version = version(&resources);
        if !force && subscription.sent.as_ref() == Some(&version) {
            return None;
        }
        self.nonces += 1;
        subscription.nonce = self.nonces.to_string();
        subscription.sent = Some(version.clone());
        Some(DiscoveryResponse {
            version_info: version,
            resources: resources.iter().map(|resource| resource.to_any()).collect(),
            type_url: type_url.to_owned(),
            nonce: subscription.nonce.clone(),
            ..Default::default()
        })
    }
}

/// A hash of the resources' names and versions.
fn version(resources: &[&Resource]) -> String {
    let mut hasher = DefaultHasher::new();
    for resource in resources {
        (&resource.name, &resource.version).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::rpc::Status;
    use xds::type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT as EDS};

    use super::*;

    fn set(resources: &[(&str, &str, &str)]) -> ResourceSet {
        let one = |(type_url, name, version): &(&str, &str, &str)| Resource {
            name: (*name).into(),
            type_url: (*type_url).into(),
            version: (*version).into(),
            body: Default::default(),
        };
        resources.iter().map(one).collect()
    }

    fn ask(type_url: &str, names: &[&str], nonce: &str, version: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names: names.iter().map(ToString::to_string).collect(),
            response_nonce: nonce.to_owned(),
            version_info: version.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn a_change_is_sent_once_and_acknowledged() {
        let mut sotw = Sotw::default();
        let mut mesh = set(&[(CLUSTER, "a", "1")]);
        assert_eq!(sotw.request(&ask(CLUSTER, &[], "", "")), Said::Subscribed);
        let first = sotw.respond(CLUSTER, &mesh, false).unwrap();
        assert_eq!(sotw.request(&ask(CLUSTER, &[], &first.nonce, &first.version_info)), Said::Ack);
        assert_eq!(sotw.respond(CLUSTER, &mesh, false), None);
        mesh = set(&[(CLUSTER, "a", "2")]);
        let second = sotw.respond(CLUSTER, &mesh, false).unwrap();
        assert_ne!(first.version_info, second.version_info);
        assert_eq!(sotw.request(&ask(CLUSTER, &[], &first.nonce, "")), Said::Stale);
        let refused = DiscoveryRequest {
            error_detail: Some(Status { message: "no".to_owned(), ..Default::default() }),
            ..ask(CLUSTER, &[], &second.nonce, &first.version_info)
        };
        assert_eq!(sotw.request(&refused), Said::Nack("no".to_owned()));
        assert_eq!(sotw.respond(CLUSTER, &mesh, false), None, "the same is not sent again");
    }

    #[test]
    fn names() {
        let mut sotw = Sotw::default();
        let mesh = set(&[(EDS, "a", "1"), (EDS, "b", "1")]);
        sotw.request(&ask(EDS, &["c"], "", ""));
        assert_eq!(sotw.respond(EDS, &mesh, false), None, "nothing is there yet");
        assert_eq!(sotw.request(&ask(EDS, &["a", "c"], "", "")), Said::Subscribed);
        assert_eq!(sotw.respond(EDS, &mesh, false).unwrap().resources.len(), 1);
        assert!(sotw.respond(EDS, &mesh, true).is_some(), "sent again for clusters that warm");
    }

    #[test]
    fn a_proxy_that_comes_back_is_left_alone() {
        let mesh = set(&[(CLUSTER, "a", "1")]);
        let mut before = Sotw::default();
        before.request(&ask(CLUSTER, &[], "", ""));
        let version = before.respond(CLUSTER, &mesh, false).unwrap().version_info;
        let mut after = Sotw::default();
        after.request(&ask(CLUSTER, &[], "", &version));
        assert_eq!(after.respond(CLUSTER, &mesh, false), None);
    }
}
