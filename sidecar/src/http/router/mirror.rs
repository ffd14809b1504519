//! Copies of requests for other clusters. The caller never waits for them, and their answers go nowhere.
//! Source: Envoy's `ShadowWriterImpl`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::body::{BodyError, BodyFrame, Progress, RequestBody};
use crate::http::filter::Exchange;
use crate::request::RequestHead;
use crate::route::action::{Mirror, MirrorTo};
use crate::stream::Stream;
use crate::upstream::call::{Call, Facts};
use crate::upstream::stack;

const XFF: HeaderName = HeaderName::from_static("x-forwarded-for");
const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");

/// A mirror whose cluster is behind by so many bytes is given up.
const LARGEST_BACKLOG: usize = 1 << 20;

/// Sends a copy of the request to each mirror that is due, and returns the body that feeds them.
pub fn send(
    exchange: &Exchange,
    mirrors: &[Mirror],
    head: &RequestHead,
    body: RequestBody,
    facts: &Facts,
) -> RequestBody {
    let mut backlogs = Vec::new();
    for mirror in mirrors {
        if mirror.fraction.is_some_and(|fraction| !fraction.contains(fastrand::u64(..))) {
            continue;
        }
        let name: Arc<str> = match &mirror.cluster {
            MirrorTo::Cluster(name) => name.clone(),
            MirrorTo::Header(header) => {
                head.header(header).map_or_else(|| "".into(), |v| String::from_utf8_lossy(&v).into())
            }
        };
        let Some(cluster) = exchange.snapshot.cluster(&name).cloned() else { continue };
        let copy = if body.is_empty() {
            RequestBody::empty()
        } else {
            let backlog = Rc::new(RefCell::new(Backlog { hint: body.size_hint(), ..Backlog::default() }));
            backlogs.push(backlog.clone());
            RequestBody::local(Box::pin(Copied(backlog)))
        };
        let stream = Stream::new(exchange.stream.connection.clone());
        stream.internal.set(true);
        let facts = Facts { stream: Rc::new(stream), progress: Progress::completed(), cluster, ..facts.plain() };
        let call = Call { head: mirrored(exchange, mirror, head), body: copy, facts: Rc::new(facts) };
        let cluster = call.facts.cluster.clone();
        tokio::task::spawn_local(async move {
            if let Ok(response) = stack::send(call, None).await {
                cluster.count_code(response.status().as_u16(), true);
                let mut body = response.into_body();
                while let Some(Ok(_)) = body.frame().await {}
            }
        });
    }
    if backlogs.is_empty() { body } else { RequestBody::local(Box::pin(Tee { body, backlogs })) }
}

fn mirrored(exchange: &Exchange, mirror: &Mirror, head: &RequestHead) -> RequestHead {
    let mut head = head.clone();
    let host = match &mirror.host {
        Some(host) => host.clone(),
        None if mirror.mark_host => shadow(head.authority_str()),
        None => head.authority_str().to_owned(),
    };
    head.authority = HeaderValue::from_str(&host).ok().or(head.authority);
    head.headers.insert(INTERNAL, HeaderValue::from_static("true"));
    if let Some(own) = exchange.connection_manager.forwarded.own_address {
        append_xff(&mut head.headers, &own.to_string());
    }
    head
}

fn append_xff(headers: &mut HeaderMap, address: &str) {
    let all = match headers.get(&XFF).and_then(|v| v.to_str().ok()) {
        Some(before) => format!("{before},{address}"),
        None => address.to_owned(),
    };
    if let Ok(all) = HeaderValue::from_str(&all) {
        headers.insert(XFF, all);
    }
}

/// `-shadow` goes between the name and the port.
fn shadow(host: &str) -> String {
    let name = crate::route::without_port(host);
    format!("{name}-shadow{}", host.get(name.len()..).unwrap_or(""))
}

/// What has passed on the way up and the mirror has not taken yet.
#[derive(Default)]
struct Backlog {
    frames: VecDeque<Frame<Bytes>>,
    size: usize,
    hint: SizeHint,
    ended: bool,
    broken: bool,
    waker: Option<Waker>,
}

impl Backlog {
    fn push(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.size += data.len();
            self.broken |= self.size > LARGEST_BACKLOG;
            self.frames.push_back(Frame::data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.frames.push_back(Frame::trailers(trailers.clone()));
        }
        if self.broken {
            self.frames.clear();
        }
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The request's own body; what passes is put into the backlogs.
struct Tee {
    body: RequestBody,
    backlogs: Vec<Rc<RefCell<Backlog>>>,
}

impl Body for Tee {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BodyFrame>> {
        let polled = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        let ended = self.body.is_end_stream();
        for backlog in &self.backlogs {
            let mut backlog = backlog.borrow_mut();
            match &polled {
                Some(Ok(frame)) => backlog.push(frame),
                Some(Err(_)) => backlog.broken = true,
                None => backlog.ended = true,
            }
            backlog.ended |= ended;
            backlog.wake();
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        for backlog in &self.backlogs {
            let mut backlog = backlog.borrow_mut();
            backlog.broken |= !backlog.ended;
            backlog.wake();
        }
    }
}

/// The mirror's body.
struct Copied(Rc<RefCell<Backlog>>);

impl Body for Copied {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BodyFrame>> {
        let mut backlog = self.0.borrow_mut();
        if backlog.broken {
            return Poll::Ready(Some(Err(BodyError::Cut("the mirrored request was not completed"))));
        }
        match backlog.frames.pop_front() {
            Some(frame) => {
                backlog.size -= frame.data_ref().map_or(0, Bytes::len);
                Poll::Ready(Some(Ok(frame)))
            }
            None if backlog.ended => Poll::Ready(None),
            None => {
                backlog.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let backlog = self.0.borrow();
        backlog.ended && backlog.frames.is_empty() && !backlog.broken
    }

    fn size_hint(&self) -> SizeHint {
        self.0.borrow().hint
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn hosts_are_marked_before_their_port() {
        for (host, expected) in
            [("a.test", "a.test-shadow"), ("a.test:81", "a.test-shadow:81"), ("[::1]:8", "[::1]-shadow:8")]
        {
            assert_eq!(super::shadow(host), expected);
        }
    }
}
