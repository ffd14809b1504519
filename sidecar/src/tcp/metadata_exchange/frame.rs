//! What goes over the wire ahead of a connection's bytes: a magic number, a length, and so many bytes, whose meaning is
//! decided by `config`. Source: Istio's `MetadataExchangeInitialHeader`.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const MAGIC: [u8; 4] = 0x3D23_0467_u32.to_be_bytes();
pub const HEADER: usize = 8;
/// Larger ones are not from a proxy of a mesh. Istio's proxy has no limit but its buffer's, at which it waits for ever.
pub const LARGEST: usize = 64 << 10;

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub enum First {
    /// The beginning of a frame: more must come.
    Part,
    /// A whole frame's content; it is taken out.
    Frame(Bytes),
    /// Something else. It is told from the first byte that fits no frame, so that nobody waits for more.
    Other,
    TooLarge,
}

pub fn encode(content: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER + content.len());
    frame.put_slice(&MAGIC);
    frame.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
    frame.put_slice(content);
    frame.freeze()
}

/// Looks at what has come so far.
pub fn first(seen: &mut BytesMut) -> First {
    let begun = seen.len().min(MAGIC.len());
    if seen.get(..begun) != MAGIC.get(..begun) {
        return First::Other;
    }
    let Some(length) = seen.get(MAGIC.len()..HEADER).and_then(|bytes| bytes.try_into().ok()) else {
        return First::Part;
    };
    let length = u32::from_be_bytes(length) as usize;
    if length > LARGEST {
        return First::TooLarge;
    }
    if seen.len() < HEADER + length {
        return First::Part;
    }
    seen.advance(HEADER);
    First::Frame(seen.split_to(length).freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: First, rest: &[u8]) {
        let mut seen = BytesMut::from(bytes);
        assert_eq!(first(&mut seen), expected, "{bytes:?}");
        assert_eq!(seen, rest, "{bytes:?}");
    }

    #[test]
    fn first_bytes() {
        let frame = encode(b"abc");
        assert_eq!(frame[..], *b"\x3d\x23\x04\x67\x00\x00\x00\x03abc");
        for part in 0..frame.len() {
            check(&frame[..part], First::Part, &frame[..part]);
        }
        check(&frame, First::Frame(Bytes::from_static(b"abc")), b"");
        check(&[&frame[..], b"data"].concat(), First::Frame(Bytes::from_static(b"abc")), b"data");
        check(&encode(b""), First::Frame(Bytes::new()), b"");
        check(b"GET / HTTP/1.1\r\n", First::Other, b"GET / HTTP/1.1\r\n");
        check(b"P", First::Other, b"P");
        check(b"\x3d\x23P", First::Other, b"\x3d\x23P");
        check(b"\x3d\x23\x04\x67\x00\x01\x00\x01", First::TooLarge, b"\x3d\x23\x04\x67\x00\x01\x00\x01");
        check(b"\x3d\x23\x04\x67\xff\xff\xff\xff", First::TooLarge, b"\x3d\x23\x04\x67\xff\xff\xff\xff");
    }
}
