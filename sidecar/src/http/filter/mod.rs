//! HTTP filters: what one is, and the chain of them. Each filter is a folder of its own with its
//! `config.rs`; the registry in `registry.rs` has a line for each. The router ends every chain and is
//! no filter of this kind: it is the connection manager's last step.

pub mod alpn;
pub mod buffer;
pub mod compressor;
pub mod config;
pub mod cors;
pub mod csrf;
pub mod decompressor;
pub mod dynamic_forward_proxy;
pub mod ext_authz;
pub mod fault;
pub mod grpc_stats;
pub mod header_mutation;
pub mod health_check;
pub mod istio_stats;
pub mod local_ratelimit;
pub mod peer_metadata;
pub mod rbac;
pub mod set_metadata;

use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Response};

use super::limits::StreamLimits;
use crate::body::{RequestBody, ResponseBody};
use crate::error::ResponseFlags;
use crate::request::RequestHead;
use crate::stream::Stream;

pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A request on its way up, as filters see and change it.
pub struct FilterRequest {
    pub head: RequestHead,
    pub body: RequestBody,
}

/// A response made here instead of upstream.
#[derive(Debug)]
pub struct LocalReply {
    pub status: u16,
    /// For gRPC callers: the status code instead of the one that the HTTP status stands for.
    pub grpc_status: Option<u16>,
    pub body: Cow<'static, str>,
    pub headers: HeaderMap,
    pub flags: ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: Cow<'static, str>,
    /// The connection ends after it; in HTTP/2 the stream is reset instead of answered.
    pub close: bool,
    /// The body is sent without a content type of its own (a filter gave one in `headers`).
    pub raw: bool,
}

impl LocalReply {
    pub fn new(status: u16, body: impl Into<Cow<'static, str>>, details: impl Into<Cow<'static, str>>) -> Self {
        LocalReply {
            status,
            grpc_status: None,
            body: body.into(),
            headers: HeaderMap::new(),
            flags: ResponseFlags::NONE,
            details: details.into(),
            close: false,
            raw: false,
        }
    }

    /// The caller broke the protocol: no other request is read from it.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    #[must_use]
    pub fn flags(mut self, flags: ResponseFlags) -> Self {
        self.flags = flags;
        self
    }
}

/// What a filter wants to happen next.
pub enum Action<'a> {
    Continue,
    /// Answer now; filters further up never see the request.
    Reply(Box<LocalReply>),
    /// Ask again when this is done (a delay, a call to another service, a body being read).
    Wait(LocalFuture<'a, Action<'static>>),
}

/// One filter as configured; shared by all workers, so what belongs to one request is kept in the
/// [`Exchange`]. A filter changes nothing but what it is handed.
pub trait HttpFilter: Send + Sync {
    /// The filter's name in the chain, by which routes configure it.
    fn name(&self) -> &str;

    fn on_request<'a>(&'a self, _exchange: &'a Exchange, _request: &'a mut FilterRequest) -> Action<'a> {
        Action::Continue
    }

    /// Responses pass the filters in reverse, local replies too.
    fn on_response<'a>(&'a self, _exchange: &'a Exchange, _response: &'a mut Response<ResponseBody>) -> Action<'a> {
        Action::Continue
    }

    /// Does `on_end` need the request's headers?
    fn watches_end(&self) -> bool {
        false
    }

    /// The request is over and all that can be known of it stands in `exchange.stream`.
    fn on_end(&self, _exchange: &Exchange, _end: &End<'_>) {}
}

/// A filter's place in the chain.
pub struct Link {
    pub filter: Arc<dyn HttpFilter>,
    /// Off unless a route has settings for it.
    pub disabled: bool,
}

/// A route's word that a filter is off. Source: `FilterConfig.disabled`.
pub struct Disabled;

/// A route's word that a filter is on, with the settings of its place in the chain.
pub struct Enabled;

/// The HTTP status that stands for a gRPC status. Source: Envoy's `Grpc::Utility::grpcToHttpStatus`.
pub fn grpc_to_http(code: u16) -> u16 {
    match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// What `on_end` may look at.
pub struct End<'a> {
    pub request: &'a RequestHead,
    pub response: Option<&'a HeaderMap>,
    pub trailers: Option<&'a HeaderMap>,
}

/// One request and its response, as shared by the filters, the router and the access log.
pub struct Exchange {
    pub stream: Rc<Stream>,
    pub connection_manager: Arc<super::ConnectionManager>,
    pub worker: Rc<crate::worker::Worker>,
    /// The configuration this request sees from its beginning to its end.
    pub snapshot: Rc<crate::worker::LocalSnapshot>,
    route: RefCell<Option<super::RouteChoice>>,
    pub progress: Rc<crate::body::Progress>,
    state: RefCell<HashMap<std::any::TypeId, Box<dyn Any>>>,
    limits: Rc<StreamLimits>,
    /// Filters that have seen the request: the response passes these.
    pub entered: Cell<usize>,
}

impl Exchange {
    pub fn new(
        stream: Rc<Stream>,
        connection_manager: Arc<super::ConnectionManager>,
        worker: Rc<crate::worker::Worker>,
        progress: Rc<crate::body::Progress>,
        limits: Rc<StreamLimits>,
    ) -> Self {
        let snapshot = worker.snapshot();
        Exchange {
            stream,
            connection_manager,
            worker,
            snapshot,
            route: RefCell::default(),
            progress,
            state: RefCell::default(),
            limits,
            entered: Cell::new(0),
        }
    }

    /// The request's limits in time.
    pub fn limits(&self) -> &Rc<StreamLimits> {
        &self.limits
    }

    /// The route chosen for the request, if one matched.
    pub fn route(&self) -> Option<super::RouteChoice> {
        self.route.borrow().clone()
    }

    pub fn set_route(&self, route: Option<super::RouteChoice>) {
        *self.route.borrow_mut() = route;
    }

    /// The most specific configuration that the route has for a filter.
    pub fn route_config<T: Any + Send + Sync>(&self, filter: &str) -> Option<Arc<T>> {
        let route = self.route.borrow();
        route.as_ref()?.filter_config(filter)?.downcast::<T>().ok()
    }

    /// Does the request pass this filter? The route has the last word.
    pub fn passes(&self, link: &Link) -> bool {
        let route = self.route.borrow();
        match route.as_ref().and_then(|route| route.filter_config(link.filter.name())) {
            Some(settings) => !settings.is::<Disabled>(),
            None => !link.disabled,
        }
    }

    /// Remembers something for this request, one value a type.
    pub fn put<T: 'static>(&self, value: T) {
        self.state.borrow_mut().insert(std::any::TypeId::of::<T>(), Box::new(value));
    }

    /// Takes back what was [`put`](Self::put).
    pub fn take<T: 'static>(&self) -> Option<T> {
        let value = self.state.borrow_mut().remove(&std::any::TypeId::of::<T>())?;
        value.downcast::<T>().ok().map(|v| *v)
    }

    /// Looks at what was put.
    pub fn with<T: 'static, R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        let state = self.state.borrow();
        state.get(&std::any::TypeId::of::<T>())?.downcast_ref::<T>().map(look)
    }
}
