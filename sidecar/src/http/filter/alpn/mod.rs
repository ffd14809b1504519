//! Has requests go upstream on connections that offer ALPN names of the mesh's own, so that the other side's proxy sees
//! who calls before it sees HTTP. Which names a connection takes of them is decided where it is made, by the
//! protocol that it will speak and its cluster. Source: Istio's `istio.alpn` filter.

pub mod config;

use std::sync::Arc;

use super::{Action as Next, Exchange, FilterRequest, HttpFilter};
use crate::upstream::alpn::Override;

pub struct Alpn {
    pub name: String,
    pub names: Arc<Override>,
}

/// What the router finds in the exchange.
pub struct Offers(pub Arc<Override>);

impl HttpFilter for Alpn {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, _: &'a mut FilterRequest) -> Next<'a> {
        exchange.put(Offers(self.names.clone()));
        Next::Continue
    }
}
