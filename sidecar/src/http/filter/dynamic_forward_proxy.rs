//! Names are resolved by the cluster of the same name when a host is chosen, so the filter itself only has
//! its place in the chain. Source: Envoy's `envoy.filters.http.dynamic_forward_proxy`.

use super::HttpFilter;

pub struct DynamicForwardProxy {
    pub name: String,
}

impl HttpFilter for DynamicForwardProxy {
    fn name(&self) -> &str {
        &self.name
    }
}
