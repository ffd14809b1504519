//! A body as gzip, and back, while it passes. Which bodies that happens to is the filters' matter.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, MultiGzDecoder};
use http::HeaderMap;
use http_body::{Body, Frame};

use crate::body::{BodyError, BodyFrame};
use crate::observe::stats::Counter;

/// What a body's bytes become.
pub trait Coder: Unpin {
    /// # Errors
    /// The bytes are none of the coding.
    fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>>;

    /// The rest, once all bytes were pushed.
    ///
    /// # Errors
    /// The coding's end is missing.
    fn finish(&mut self) -> io::Result<Vec<u8>>;
}

/// Bytes before and after.
#[derive(Clone)]
pub struct Passed {
    pub before: Counter,
    pub after: Counter,
}

pub struct Compress(GzEncoder<Vec<u8>>);

impl Compress {
    /// `level` from 0 (as they are) to 9 (smallest).
    pub fn new(level: u32) -> Self {
        Compress(GzEncoder::new(Vec::new(), Compression::new(level.min(9))))
    }
}

impl Coder for Compress {
    fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(bytes)?;
        // What came is sent on: more of it may be long in coming.
        self.0.flush()?;
        Ok(std::mem::take(self.0.get_mut()))
    }

    fn finish(&mut self) -> io::Result<Vec<u8>> {
        self.0.try_finish()?;
        Ok(std::mem::take(self.0.get_mut()))
    }
}

pub struct Decompress {
    decoder: MultiGzDecoder<Bounded>,
    taken: u64,
    ratio: u64,
}

/// Takes what was made, up to a limit, so that no few bytes fill the memory.
#[derive(Default)]
struct Bounded {
    out: Vec<u8>,
    written: u64,
    most: u64,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.written > self.most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the body grows too much"));
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decompress {
    /// A body that grows to more than `ratio` times its size is cut. Source: `max_inflate_ratio`.
    pub fn new(ratio: u32) -> Self {
        Decompress { decoder: MultiGzDecoder::new(Bounded::default()), taken: 0, ratio: ratio.into() }
    }
}

impl Coder for Decompress {
    fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.taken = self.taken.saturating_add(bytes.len() as u64);
        self.decoder.get_mut().most = self.taken.saturating_mul(self.ratio);
        self.decoder.write_all(bytes)?;
        self.decoder.flush()?;
        Ok(std::mem::take(&mut self.decoder.get_mut().out))
    }

    fn finish(&mut self) -> io::Result<Vec<u8>> {
        self.decoder.try_finish()?;
        Ok(std::mem::take(&mut self.decoder.get_mut().out))
    }
}

/// A body whose data pass a coder. What is no gzip ends it.
pub struct Coded<B, C> {
    body: B,
    coder: C,
    passed: Passed,
    at: At,
}

enum At {
    Data,
    /// The coder has finished; the trailers are left.
    Trailers(HeaderMap),
    End,
}

impl<B, C> Coded<B, C> {
    pub fn new(body: B, coder: C, passed: Passed) -> Self {
        Coded { body, coder, passed, at: At::Data }
    }

    fn made(&mut self, made: io::Result<Vec<u8>>) -> BodyFrame {
        match made {
            Ok(bytes) => {
                self.passed.after.add(bytes.len() as u64);
                Ok(Frame::data(Bytes::from(bytes)))
            }
            Err(_) => {
                self.at = At::End;
                Err(BodyError::Cut("the body can't be coded"))
            }
        }
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin, C: Coder> Body for Coded<B, C> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BodyFrame>> {
        let this = &mut *self;
        loop {
            match std::mem::replace(&mut this.at, At::Data) {
                At::Data => {}
                At::Trailers(trailers) => {
                    this.at = At::End;
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                At::End => {
                    this.at = At::End;
                    return Poll::Ready(None);
                }
            }
            let frame = ready!(Pin::new(&mut this.body).poll_frame(cx)).transpose()?;
            let made = match frame.map(Frame::into_data) {
                Some(Ok(data)) => {
                    this.passed.before.add(data.len() as u64);
                    this.coder.push(&data)
                }
                Some(Err(other)) => {
                    this.at = other.into_trailers().map_or(At::End, At::Trailers);
                    this.coder.finish()
                }
                None => {
                    this.at = At::End;
                    this.coder.finish()
                }
            };
            // Nothing may have come of it yet.
            if !matches!(&made, Ok(bytes) if bytes.is_empty()) {
                return Poll::Ready(Some(this.made(made)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.at, At::End)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;
    use crate::observe::stats::Scope;

    fn body(bytes: &[u8], piece: usize) -> impl Body<Data = Bytes, Error = BodyError> + Unpin + use<> {
        let pieces: Vec<_> = bytes.chunks(piece).map(|b| Ok(Frame::data(Bytes::copy_from_slice(b)))).collect();
        let trailers = HeaderMap::from_iter([("x-t".parse().unwrap(), "1".parse().unwrap())]);
        StreamBody::new(tokio_stream::iter(pieces.into_iter().chain([Ok(Frame::trailers(trailers))])))
    }

    fn passed() -> Passed {
        Passed { before: Scope::root().counter("test.before"), after: Scope::root().counter("test.after") }
    }

    async fn coded(bytes: &[u8], piece: usize, coder: impl Coder) -> Result<Bytes, BodyError> {
        let all = Coded::new(body(bytes, piece), coder, passed()).collect().await?;
        assert_eq!(all.trailers().unwrap()["x-t"], "1");
        Ok(all.to_bytes())
    }

    #[tokio::test]
    async fn there_and_back() {
        let text = b"the same again, ".repeat(100);
        for piece in [1, 7, 4096] {
            let small = coded(&text, piece, Compress::new(6)).await.unwrap();
            assert_eq!(small[..2], [0x1f, 0x8b]);
            assert_eq!(coded(&small, piece, Decompress::new(1000)).await.unwrap(), text, "{piece}");
        }
        assert!(coded(&text, 4096, Compress::new(6)).await.unwrap().len() < 100);
    }

    #[tokio::test]
    async fn what_is_cut() {
        let zeros = coded(&[0; 100_000], 100_000, Compress::new(9)).await.unwrap();
        assert!(coded(&zeros, 4096, Decompress::new(100)).await.is_err());
        assert!(coded(&zeros, 4096, Decompress::new(1000)).await.is_ok());
        assert!(coded(b"this is no gzip at all", 4, Decompress::new(100)).await.is_err());
    }
}
