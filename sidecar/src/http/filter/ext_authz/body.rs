//! The beginning of a request's body, which the service is shown; upstream gets all of it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::body::{BodyError, BodyFrame, RequestBody};

/// Source: `BufferSettings`.
#[derive(Clone, Copy, Debug)]
pub struct BodyRules {
    pub limit: usize,
    /// What is longer is shown up to the limit, instead of being refused.
    pub partial: bool,
    /// It need not be text.
    pub bytes: bool,
}

/// What the service is shown.
#[derive(Debug)]
pub struct Begun {
    pub shown: Bytes,
    /// There is more of it.
    pub partial: bool,
    pub bytes: bool,
}

/// Waits for as much as is to be shown. `None`: it is too long. A body that breaks off does so for upstream too.
pub async fn begin(body: &mut RequestBody, rules: &BodyRules) -> Option<Begun> {
    let (mut first, mut all, mut ended) = (VecDeque::new(), BytesMut::new(), false);
    let full = |len: usize| if rules.partial { len >= rules.limit } else { len > rules.limit };
    while !full(all.len()) {
        let Some(frame) = body.frame().await else {
            ended = true;
            break;
        };
        let failed = frame.is_err();
        if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref) {
            all.extend_from_slice(data);
        }
        first.push_back(frame);
        if failed {
            break;
        }
    }
    if !rules.partial && all.len() > rules.limit {
        return None;
    }
    let whole = ended && first.iter().all(|frame| matches!(frame, Ok(frame) if frame.is_data()));
    let partial = all.len() > rules.limit;
    let all = all.freeze();
    let rest = std::mem::replace(body, RequestBody::empty());
    *body = if whole { RequestBody::full(all.clone()) } else { RequestBody::local(Box::pin(Resumed { first, rest })) };
    Some(Begun { shown: all.slice(..all.len().min(rules.limit)), partial, bytes: rules.bytes })
}

/// A body of which the first frames were looked at.
struct Resumed {
    first: VecDeque<BodyFrame>,
    rest: RequestBody,
}

impl Body for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BodyFrame>> {
        match self.first.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first: u64 = self.first.iter().flatten().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        let rest = self.rest.size_hint();
        match rest.exact() {
            Some(rest) => SizeHint::with_exact(first.saturating_add(rest)),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(limit: usize, partial: bool, expected: Option<(&[u8], bool)>) {
        let pieces = ["abc", "def", "g"].map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
        let mut body = RequestBody::local(Box::pin(http_body_util::StreamBody::new(tokio_stream::iter(pieces))));
        let begun = begin(&mut body, &BodyRules { limit, partial, bytes: false }).await;
        let shown = begun.as_ref().map(|begun| (&begun.shown[..], begun.partial));
        assert_eq!(shown, expected, "{limit} {partial}");
        if begun.is_some() {
            assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdefg", "{limit} {partial}");
        }
    }

    #[tokio::test]
    async fn upstream_gets_all() {
        check(7, false, Some((b"abcdefg", false))).await;
        check(6, false, None).await;
        check(4, true, Some((b"abcd", true))).await;
        check(100, true, Some((b"abcdefg", false))).await;
    }
}
