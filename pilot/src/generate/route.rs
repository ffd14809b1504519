//! Route tables → route configurations.

use std::collections::HashMap;

use api::traffic_policy::RateLimit;
use envoy_types::pb::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::RbacPerRoute;
use envoy_types::pb::envoy::r#type::v3::TokenBucket;
use envoy_types::pb::google::protobuf::Any;

use super::{any, http, matcher, rbac, route_action, value};
use crate::ir::{self, Action, RouteTable};

pub(super) fn table(table: &RouteTable) -> RouteConfiguration {
    RouteConfiguration {
        name: table.name.clone(),
        virtual_hosts: table.hosts.iter().map(|host| virtual_host(host, table.inbound)).collect(),
        // A cluster may come after its route; until then it is as if it had no host.
        validate_clusters: value::flag(false),
        ..Default::default()
    }
}

fn virtual_host(host: &ir::VirtualHost, inbound: bool) -> VirtualHost {
    let mut filters = HashMap::new();
    filters.extend(rbac::per_route(&host.access).map(|rbac| (http::RBAC.to_owned(), any(&rbac))));
    filters.extend(host.rate_limit.map(|limit| (http::LOCAL_RATE_LIMIT.to_owned(), any(&rate_limit(limit)))));
    VirtualHost {
        name: host.name.clone(),
        domains: host.domains.clone(),
        routes: host.routes.iter().map(route).collect(),
        typed_per_filter_config: filters,
        include_request_attempt_count: !inbound,
        ..Default::default()
    }
}

/// One bucket for the whole proxy.
fn rate_limit(limit: RateLimit) -> LocalRateLimit {
    let burst = limit.burst.unwrap_or(limit.requests);
    LocalRateLimit {
        stat_prefix: "http_local_rate_limiter".to_owned(),
        token_bucket: Some(TokenBucket {
            max_tokens: burst.get(),
            tokens_per_fill: value::number(limit.requests.get()),
            fill_interval: value::duration(limit.per),
        }),
        filter_enabled: value::runtime_fraction(1_000_000),
        filter_enforced: value::runtime_fraction(1_000_000),
        ..Default::default()
    }
}

fn route(route: &ir::Route) -> Route {
    let mut made = Route {
        name: route.name.clone(),
        r#match: Some(matcher::route(&route.conditions)),
        action: Some(route_action::action(route)),
        ..Default::default()
    };
    let request = &route.actions.request_headers;
    let response = &route.actions.response_headers;
    made.request_headers_to_add = route_action::headers(request);
    made.request_headers_to_remove.clone_from(&request.remove);
    made.response_headers_to_add = route_action::headers(response);
    made.response_headers_to_remove.clone_from(&response.remove);
    match &route.action {
        Action::RefuseEscapedSlash => {
            made.r#match = Some(matcher::escaped_slash());
            // It is refused whoever asks: access is decided by paths that can be read.
            made.typed_per_filter_config = override_with(http::RBAC, any(&RbacPerRoute::default()));
        }
        Action::Forward(forward) => {
            let fault = route_action::fault(&forward.fault);
            made.typed_per_filter_config =
                fault.map(|fault| override_with(http::FAULT, any(&fault))).unwrap_or_default();
        }
        Action::Answer(..) | Action::Redirect => {}
    }
    made
}

fn override_with(filter: &str, config: Any) -> HashMap<String, Any> {
    HashMap::from([(filter.to_owned(), config)])
}
