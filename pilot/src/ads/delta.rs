//! One stream's subscriptions in the incremental protocol. No I/O.
//!
//! Source: Envoy's "xDS REST and gRPC protocol", "Incremental xDS".

use std::collections::{BTreeMap, BTreeSet};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use xds::ResourceSet;

use super::sotw::Said;

/// A stream's subscriptions by type.
#[derive(Debug, Default)]
pub(super) struct Delta {
    types: BTreeMap<String, Subscription>,
    nonces: u64,
}

#[derive(Debug, Default)]
struct Subscription {
    all: bool,
    names: BTreeSet<String>,
    /// What the proxy has, or was sent, by version; an empty version stands for "told that it is not there".
    known: BTreeMap<String, String>,
    nonce: String,
}

impl Subscription {
    fn wants(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }
}

impl Delta {
    /// Whether a type is subscribed to.
    pub(super) fn has(&self, type_url: &str) -> bool {
        self.types.contains_key(type_url)
    }

    /// Takes a request in.
    pub(super) fn request(&mut self, request: &DeltaDiscoveryRequest) -> Said {
        let first = !self.types.contains_key(&request.type_url);
        let subscription = self.types.entry(request.type_url.clone()).or_default();
        if first {
            subscription.all = super::wildcard(&request.type_url) && request.resource_names_subscribe.is_empty();
            subscription.known = request.initial_resource_versions.clone().into_iter().collect();
        }
        for name in &request.resource_names_subscribe {
            if name == "*" {
                subscription.all = true;
            } else {
                subscription.names.insert(name.clone());
                // Who asks again for what it has wants it again, except when it comes back and says what it has.
                if !first {
                    subscription.known.remove(name);
                }
            }
        }
        for name in &request.resource_names_unsubscribe {
            if name == "*" {
                subscription.all = false;
            }
            subscription.names.remove(name);
            if !subscription.all {
                subscription.known.remove(name);
            }
        }
        let answered = request.response_nonce.is_empty() || request.response_nonce == subscription.nonce;
        match &request.error_detail {
            Some(error) => Said::Nack(error.message.clone()),
            None if first || !request.resource_names_subscribe.is_empty() => Said::Subscribed,
            None if answered => Said::Ack,
            None => Said::Stale,
        }
    }

    /// What has changed of a type; `again` names what is to be sent though it has not.
    pub(super) fn respond(
        &mut self,
        type_url: &str,
        set: &ResourceSet,
        again: &BTreeSet<String>,
    ) -> Option<DeltaDiscoveryResponse> {
        let subscription = self.types.get_mut(type_url)?;
        let empty = xds::resource::ByName::new();
        let there = set.of_type(type_url).map_or(&empty, |names| names.as_ref());
        let mut resources = Vec::new();
        for (name, resource) in there {
            if !subscription.wants(name) {
                continue;
            }
            let known = subscription.known.get(&**name).is_some_and(|version| *version == *resource.version);
            if known && !again.contains(&**name) {
                continue;
            }
            subscription.known.insert(name.to_string(), resource.version.to_string());
            resources.push(Resource {
                name: name.to_string(),
                version: resource.version.to_string(),
                resource: Some(resource.to_any()),
                ..Default::default()
            });
        }
        let gone: Vec<String> = subscription
            .known
            .iter()
            .filter(|(name, version)| !version.is_empty() && !there.contains_key(name.as_str()))
            .map(|(name, _)| name.clone())
            .collect();
        gone.iter().for_each(|name| drop(subscription.known.remove(name)));
        if resources.is_empty() && gone.is_empty() {
            return None;
        }
        self.nonces += 1;
        subscription.nonce = self.nonces.to_string();
        Some(DeltaDiscoveryResponse {
            resources,
            removed_resources: gone,
            type_url: type_url.to_owned(),
            nonce: subscription.nonce.clone(),
            ..Default::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use xds::type_url::{CLUSTER, CLUSTER_LOAD_ASSIGNMENT as EDS};

    use super::*;

    fn set(resources: &[(&str, &str, &str)]) -> ResourceSet {
        let one = |(type_url, name, version): &(&str, &str, &str)| xds::Resource {
            name: (*name).into(),
            type_url: (*type_url).into(),
            version: (*version).into(),
            body: Default::default(),
        };
        resources.iter().map(one).collect()
    }

    fn names(response: &DeltaDiscoveryResponse) -> (Vec<&str>, Vec<&str>) {
        let sent = response.resources.iter().map(|r| r.name.as_str()).collect();
        (sent, response.removed_resources.iter().map(String::as_str).collect())
    }

    #[test]
    fn only_what_changed() {
        let mut delta = Delta::default();
        let none = BTreeSet::new();
        let request = DeltaDiscoveryRequest { type_url: CLUSTER.to_owned(), ..Default::default() };
        assert_eq!(delta.request(&request), Said::Subscribed);
        let first = delta.respond(CLUSTER, &set(&[(CLUSTER, "a", "1"), (CLUSTER, "b", "1")]), &none).unwrap();
        assert_eq!(names(&first), (vec!["a", "b"], vec![]));
        let second = delta.respond(CLUSTER, &set(&[(CLUSTER, "a", "2")]), &none).unwrap();
        assert_eq!(names(&second), (vec!["a"], vec!["b"]));
        assert_eq!(delta.respond(CLUSTER, &set(&[(CLUSTER, "a", "2")]), &none), None);
    }

    #[test]
    fn coming_back_and_asking_again() {
        let mut delta = Delta::default();
        let mesh = set(&[(EDS, "a", "1"), (EDS, "b", "1")]);
        let mut request = DeltaDiscoveryRequest {
            type_url: EDS.to_owned(),
            resource_names_subscribe: vec!["a".to_owned()],
            initial_resource_versions: [("a".to_owned(), "1".to_owned()), ("c".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        };
        delta.request(&request);
        let first = delta.respond(EDS, &mesh, &BTreeSet::new()).unwrap();
        assert_eq!(names(&first), (vec![], vec!["c"]));
        request.initial_resource_versions.clear();
        assert_eq!(delta.request(&request), Said::Subscribed);
        assert_eq!(names(&delta.respond(EDS, &mesh, &BTreeSet::new()).unwrap()).0, ["a"]);
        assert_eq!(names(&delta.respond(EDS, &mesh, &BTreeSet::from(["a".to_owned()])).unwrap()).0, ["a"]);
    }
}
