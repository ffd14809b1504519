//! The end of a request, however it comes: counted, logged and traced once. The answer itself is not decided here.

use std::rc::Rc;
use std::task::Context;
use std::time::Instant;

use http::{HeaderMap, Response};

use super::filter::{End, Exchange};
use super::head_guard::Refusal;
use super::limits::Watched;
use super::serve::{Entered, Session};
use crate::body::{BodyError, Observe, ResponseBody};
use crate::error::{ProxyError, ResponseFlags};
use crate::observe::trace::Span;
use crate::request::RequestHead;
use crate::stream::{Protocol, Stream};
use crate::upstream::pool::Active;

/// Tells of a request that was refused before it was one.
pub fn refused(session: &Session, refusal: Refusal) {
    let manager = &session.manager;
    let stream = Stream::new(session.connection.clone());
    stream.protocol.set(Some(Protocol::Http11));
    stream.add_flags(refusal.flags);
    stream.set_details(refusal.details);
    stream.response_code.set(Some(refusal.status));
    stream.bytes_sent.set(refusal.body.len() as u64);
    stream.end.set(Some(Instant::now()));
    manager.stats.rq_total.inc();
    manager.stats.rq_http1_total.inc();
    manager.stats.count_response(&stream, true);
    manager.access_logs.iter().for_each(|log| log.write(&crate::format::Context::of(&stream)));
}

/// Sees a request to its end, whatever that is, and tells stats, logs and spans once.
pub struct Finish {
    exchange: Rc<Exchange>,
    session: Rc<Session>,
    pub request: Option<RequestHead>,
    response: Option<HeaderMap>,
    trailers: Option<HeaderMap>,
    began: bool,
    complete: bool,
    told: bool,
    watched: Watched,
    _active: Active,
    _entered: Entered,
}

impl Finish {
    pub fn new(exchange: Rc<Exchange>, session: Rc<Session>, entered: Entered, watched: Watched) -> Self {
        let active = Active::new(&session.manager.stats.rq_active);
        Finish {
            exchange,
            session,
            request: None,
            response: None,
            trailers: None,
            began: false,
            complete: false,
            told: false,
            watched,
            _active: active,
            _entered: entered,
        }
    }

    /// The response's head goes out now.
    pub fn begin(&mut self, request: Option<RequestHead>, response: &Response<ResponseBody>) {
        self.began = true;
        self.request = request;
        let stream = &self.exchange.stream;
        stream.response_code.set(Some(response.status().as_u16()));
        let now = Instant::now();
        stream.first_byte_sent.set(Some(now));
        self.watched.limits.touch_at(now);
        if self.session.manager.needs_request_headers {
            self.response = Some(response.headers().clone());
        }
    }

    fn tell(&mut self) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let stream = &self.exchange.stream;
        stream.end.set(Some(Instant::now()));
        if self.exchange.progress.is_complete() || self.exchange.progress.received() > 0 {
            stream.bytes_received.set(self.exchange.progress.received());
        }
        if let (Some(passed), true) = (self.watched.limits.passed(), self.began && !self.complete)
            && stream.response_flags.get().is_empty()
        {
            // The connection ended because its caller took nothing.
            passed.count(&self.session.manager.stats);
            stream.add_flags(passed.error().flags());
            stream.set_details(passed.error().details());
        }
        if self.began && !self.complete {
            // Cut after its head: the caller went, or upstream did.
            if stream.response_flags.get().is_empty() {
                stream.add_flags(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
                stream.set_details("downstream_remote_disconnect");
            }
        } else if !self.began && stream.response_flags.get().is_empty() {
            if self.session.http2 {
                stream.add_flags(ResponseFlags::DOWNSTREAM_REMOTE_RESET);
                stream.set_details("http2.remote_reset");
            } else {
                stream.add_flags(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
                stream.set_details("downstream_remote_disconnect");
            }
            stream.response_code.set(Some(0));
        }
        let manager = &self.session.manager;
        manager.stats.count_response(stream, self.began);
        if self.began && !self.exchange.progress.is_complete() {
            manager.stats.rq_rx_reset.inc();
        }
        let (request, response, trailers) = (self.request.as_ref(), self.response.as_ref(), self.trailers.as_ref());
        if let Some(request) = request {
            let end = End { request, response, trailers };
            let entered = manager.filters.iter().take(self.exchange.entered.get());
            for link in entered.filter(|link| self.exchange.passes(link)) {
                link.filter.on_end(&self.exchange, &end);
            }
        }
        if let (Some(tracer), Some(span)) = (&manager.tracer, self.exchange.take::<Span>()) {
            let route = self.exchange.route();
            let operation = route.as_ref().and_then(|route| route.route.operation.as_deref());
            tracer.end(span, stream, operation, response, trailers);
        }
        let context = crate::format::Context { request, response, trailers, ..crate::format::Context::of(stream) };
        manager.access_logs.iter().for_each(|log| log.write(&context));
    }
}

impl Observe for Finish {
    fn frame(&mut self, frame: &mut http_body::Frame<bytes::Bytes>) -> Result<(), BodyError> {
        let stream = &self.exchange.stream;
        self.watched.limits.touch();
        if let Some(data) = frame.data_ref() {
            stream.bytes_sent.set(stream.bytes_sent.get() + data.len() as u64);
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        Ok(())
    }

    fn idle(&mut self, cx: &mut Context<'_>) -> Option<BodyError> {
        let passed = self.watched.limits.poll_passed(cx)?;
        passed.count(&self.session.manager.stats);
        Some(BodyError::Proxy(passed.error()))
    }

    fn end(&mut self, outcome: Result<(), &BodyError>) {
        self.complete = outcome.is_ok();
        if let Err(BodyError::Proxy(error)) = outcome {
            let stream = &self.exchange.stream;
            stream.add_flags(error.flags());
            stream.set_details(error.details());
        } else if let Err(BodyError::Transport(error)) = outcome {
            let error = crate::upstream::pool::body_error(error);
            let stream = &self.exchange.stream;
            stream.add_flags(error.flags());
            if let ProxyError::Reset { reason, .. } = error {
                let reason = reason.words().replace(' ', "_");
                stream.set_details(format!("upstream_reset_after_response_started{{{reason}}}"));
            }
        }
        self.tell();
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.tell();
    }
}
