//! Follows a redirect of upstream, if the route's policy says so: the request begins again as another.

use std::sync::Arc;

use http::Response;

use crate::body::{RequestBody, ResponseBody};
use crate::http::RouteChoice;
use crate::http::filter::{Exchange, FilterRequest};
use crate::http::handle::choose_route;
use crate::request::{RequestHead, Scheme};
use crate::route::internal_redirect::{InternalRedirects, Refused};

/// The request as it was before its route changed it, kept as long as it may have to begin again.
pub struct Before {
    pub head: RequestHead,
    pub body: Option<RequestBody>,
}

/// Redirects followed so far, and the routes that were taken.
#[derive(Default)]
struct Followed {
    count: u32,
    routes: Vec<Arc<crate::route::Route>>,
}

/// True if `request` is now another one, with its route chosen.
pub fn follow(
    exchange: &Exchange,
    choice: &RouteChoice,
    policy: &InternalRedirects,
    before: Before,
    request: &mut FilterRequest,
    response: &Response<ResponseBody>,
) -> bool {
    let stats = &exchange.connection_manager.stats;
    let (Some(body), true) = (before.body, exchange.progress.is_complete()) else { return false };
    let mut followed = exchange.take::<Followed>().unwrap_or_default();
    if followed.count >= policy.max {
        stats.internal_redirect_too_many.inc();
        return false;
    }
    let head = match policy.redirected(&before.head, response.status().as_u16(), response.headers()) {
        Ok(head) => head,
        Err(Refused::BadLocation) => {
            stats.internal_redirect_bad_location.inc();
            return false;
        }
        Err(Refused::UnsafeScheme) => {
            stats.internal_redirect_unsafe_scheme.inc();
            return false;
        }
    };
    choose_route(exchange, &head);
    let target = exchange.route();
    followed.routes.push(choice.route.clone());
    let allowed = match &target {
        None => {
            stats.internal_redirect_no_route.inc();
            false
        }
        Some(target) => {
            let taken = policy.new_routes_only && followed.routes.iter().any(|taken| Arc::ptr_eq(taken, &target.route));
            let name = target.route.name.as_deref().unwrap_or("");
            let listed = policy.allowed.as_ref().is_none_or(|names| names.iter().any(|n| n == name));
            !taken && listed
        }
    };
    if !allowed {
        exchange.set_route(Some(choice.clone()));
        return false;
    }
    followed.count += 1;
    exchange.put(followed);
    let empty = head.method != before.head.method;
    request.body = if empty { RequestBody::empty() } else { body };
    request.head = head;
    let forwarded = match request.head.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    request.head.set("x-forwarded-proto", forwarded);
    true
}
