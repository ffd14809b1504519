//! What a resource is called, whatever its type, and the wrapper it may come in.

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, ScopedRouteConfiguration, VirtualHost};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::discovery::v3::Resource;
use envoy_types::pb::envoy::service::runtime::v3::Runtime;
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

use super::Fetched;
use crate::config::{duration, is};

/// Reads a resource of a state-of-the-world response.
///
/// # Errors
/// The bytes are not what the type URL says.
pub fn fetched(any: Any, version: &str) -> Result<Fetched, String> {
    if !is::<Resource>(&any) {
        let name = name_of(&any)?;
        return Ok(Fetched { name, version: version.to_owned(), resource: any, ttl: None });
    }
    let wrapper = Resource::decode(any.value.as_slice()).map_err(|e| e.to_string())?;
    let ttl = duration(wrapper.ttl.as_ref());
    let resource = wrapper.resource.unwrap_or_default();
    let name = if wrapper.name.is_empty() { name_of(&resource)? } else { wrapper.name };
    Ok(Fetched { name, version: version.to_owned(), resource, ttl })
}

/// The resource's own name.
///
/// # Errors
/// The bytes are not what the type URL says, or the type is not known.
pub fn name_of(any: &Any) -> Result<String, String> {
    fn read<T: Message + Name + Default>(any: &Any, name: fn(T) -> String) -> Option<Result<String, String>> {
        is::<T>(any).then(|| T::decode(any.value.as_slice()).map(name).map_err(|e| e.to_string()))
    }
    read::<Listener>(any, |r| r.name)
        .or_else(|| read::<Cluster>(any, |r| r.name))
        .or_else(|| read::<RouteConfiguration>(any, |r| r.name))
        .or_else(|| read::<ClusterLoadAssignment>(any, |r| r.cluster_name))
        .or_else(|| read::<Secret>(any, |r| r.name))
        .or_else(|| read::<VirtualHost>(any, |r| r.name))
        .or_else(|| read::<ScopedRouteConfiguration>(any, |r| r.name))
        .or_else(|| read::<Runtime>(any, |r| r.name))
        .or_else(|| read::<TypedExtensionConfig>(any, |r| r.name))
        .unwrap_or_else(|| Err(format!("no resource type: {}", any.type_url)))
}
