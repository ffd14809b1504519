//! Adds and removes headers at this place in the chain. Source: Envoy's `envoy.filters.http.header_mutation`.

pub mod config;

use http::header::HeaderName;
use http::{HeaderMap, Response};

use super::{Action, Exchange, FilterRequest, HttpFilter};
use crate::body::ResponseBody;
use crate::format::Context;
use crate::matcher::StringMatcher;
use crate::request::RequestHead;
use crate::route::headers::AddHeader;
use crate::stream::Stream;

pub struct HeaderMutationFilter {
    name: String,
    mutations: Mutations,
    needs_request: bool,
}

/// What is changed, in this order; a route may have more.
#[derive(Default)]
pub struct Mutations {
    request: Vec<Mutation>,
    response: Vec<Mutation>,
}

enum Mutation {
    Remove(HeaderName),
    RemoveMatching(StringMatcher),
    Add(AddHeader),
}

/// The request's head as responses' formats see it.
struct Head(RequestHead);

impl HttpFilter for HeaderMutationFilter {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_request<'a>(&'a self, exchange: &'a Exchange, request: &'a mut FilterRequest) -> Action<'a> {
        let of_route = exchange.route_config::<Mutations>(&self.name);
        for mutations in std::iter::once(&self.mutations).chain(of_route.as_deref()) {
            for mutation in &mutations.request {
                let value = mutation.value(&exchange.stream, Some(&request.head), None);
                mutation.apply(&mut request.head.headers, value);
            }
        }
        if self.needs_request || of_route.is_some() {
            exchange.put(Head(request.head.clone()));
        }
        Action::Continue
    }

    fn on_response<'a>(&'a self, exchange: &'a Exchange, response: &'a mut Response<ResponseBody>) -> Action<'a> {
        exchange.stream.response_code.set(Some(response.status().as_u16()));
        let of_route = exchange.route_config::<Mutations>(&self.name);
        let head = exchange.take::<Head>();
        let head = head.as_ref().map(|head| &head.0);
        for mutations in std::iter::once(&self.mutations).chain(of_route.as_deref()) {
            for mutation in &mutations.response {
                let value = mutation.value(&exchange.stream, head, Some(response.headers()));
                mutation.apply(response.headers_mut(), value);
            }
        }
        Action::Continue
    }
}

impl Mutation {
    fn value(&self, stream: &Stream, request: Option<&RequestHead>, response: Option<&HeaderMap>) -> String {
        match self {
            Mutation::Add(add) => add.value.to_text_or_empty(&Context { request, response, ..Context::of(stream) }),
            _ => String::new(),
        }
    }

    fn apply(&self, headers: &mut HeaderMap, value: String) {
        match self {
            Mutation::Add(add) => add.apply(headers, value),
            Mutation::Remove(name) => {
                headers.remove(name);
            }
            Mutation::RemoveMatching(matcher) => {
                let gone: Vec<HeaderName> =
                    headers.keys().filter(|name| matcher.matches(name.as_str())).cloned().collect();
                gone.iter().for_each(|name| {
                    headers.remove(name);
                });
            }
        }
    }
}
