//! An encoded xDS resource, and a set of them by type and name.
//!
//! Holds bytes only: what a resource means is decided by whoever decodes it. The version is the
//! maker's (a content hash): prost's maps encode in random order, so equal messages may differ in bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use prost::bytes::Bytes;
use prost::{Message, Name};

/// One resource as it travels: cheap to clone, since body and strings are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The resource's name: the key of subscriptions.
    pub name: Arc<str>,
    /// What it is, as a type URL; see [`crate::type_url`].
    pub type_url: Arc<str>,
    /// Changes exactly when the content does.
    pub version: Arc<str>,
    /// The encoded message: the `value` of its `google.protobuf.Any`.
    pub body: Bytes,
}

impl Resource {
    /// Encodes `message` once. `version` must be a hash of what it was made from, not of its bytes.
    pub fn encode<M: Message + Name>(name: &str, version: &str, message: &M) -> Self {
        Self {
            name: name.into(),
            type_url: M::type_url().into(),
            version: version.into(),
            body: message.encode_to_vec().into(),
        }
    }

    /// The resource as the `Any` that a discovery response carries (copies the body).
    pub fn to_any(&self) -> Any {
        Any { type_url: self.type_url.to_string(), value: self.body.to_vec() }
    }

    /// Decodes the body.
    ///
    /// # Errors
    /// When the type URL names another message or the bytes are no such message.
    pub fn decode<M: Message + Name + Default>(&self) -> Result<M, prost::DecodeError> {
        #[allow(deprecated)] // the only way to make a DecodeError of one's own in prost 0.14
        if crate::type_url::message_name(&self.type_url) != M::full_name() {
            return Err(prost::DecodeError::new(format!(
                "type URL {} where {} is expected",
                self.type_url,
                M::type_url()
            )));
        }
        M::decode(self.body.clone())
    }
}

/// Resources of one type by name, in name order.
pub type ByName = BTreeMap<Arc<str>, Resource>;

/// Resources by type URL and name. A clone shares everything; a change copies one type's map of
/// names, never the bodies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceSet {
    types: Arc<BTreeMap<Arc<str>, Arc<ByName>>>,
}

impl ResourceSet {
    /// Puts `resource` in, in place of one with the same type and name.
    pub fn insert(&mut self, resource: Resource) {
        let types = Arc::make_mut(&mut self.types);
        let of_type = types.entry(resource.type_url.clone()).or_default();
        Arc::make_mut(of_type).insert(resource.name.clone(), resource);
    }

    /// Takes a resource out and returns it.
    pub fn remove(&mut self, type_url: &str, name: &str) -> Option<Resource> {
        self.get(type_url, name)?;
        let of_type = Arc::make_mut(&mut self.types).get_mut(type_url)?;
        Arc::make_mut(of_type).remove(name)
    }

    pub fn get(&self, type_url: &str, name: &str) -> Option<&Resource> {
        self.types.get(type_url)?.get(name)
    }

    /// All resources of one type; `None` if there never was one.
    pub fn of_type(&self, type_url: &str) -> Option<&Arc<ByName>> {
        self.types.get(type_url)
    }

    /// Every type with its resources, in type URL order.
    pub fn types(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<ByName>)> {
        self.types.iter()
    }

    /// Every resource, by type URL, then name.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.types.values().flat_map(|names| names.values())
    }

    pub fn len(&self) -> usize {
        self.types.values().map(|names| names.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.types.values().all(|names| names.is_empty())
    }
}

impl FromIterator<Resource> for ResourceSet {
    fn from_iter<I: IntoIterator<Item = Resource>>(resources: I) -> Self {
        let mut set = Self::default();
        set.extend(resources);
        set
    }
}

impl Extend<Resource> for ResourceSet {
    fn extend<I: IntoIterator<Item = Resource>>(&mut self, resources: I) {
        resources.into_iter().for_each(|resource| self.insert(resource));
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use envoy_types::pb::envoy::config::listener::v3::Listener;

    use super::*;
    use crate::type_url;

    fn cluster(name: &str) -> Resource {
        Resource::encode(name, "v1", &Cluster { name: name.to_owned(), ..Default::default() })
    }

    #[test]
    fn keeps_the_encoded_message() {
        let resource = cluster("a");
        assert_eq!(&*resource.type_url, type_url::CLUSTER);
        assert_eq!(resource.decode::<Cluster>().unwrap().name, "a");
        assert!(resource.decode::<Listener>().is_err());
    }

    #[test]
    fn a_change_leaves_older_clones_as_they_were() {
        let mut set: ResourceSet = [cluster("b"), cluster("a")].into_iter().collect();
        let before = set.clone();
        assert!(set.remove(type_url::CLUSTER, "a").is_some());
        assert!(set.remove(type_url::CLUSTER, "a").is_none());
        set.insert(Resource { version: "v2".into(), ..cluster("b") });
        assert_eq!(set.len(), 1);
        assert_eq!(&*set.get(type_url::CLUSTER, "b").unwrap().version, "v2");
        let names: Vec<&str> = before.iter().map(|resource| &*resource.name).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
