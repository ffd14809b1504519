//! Counts gRPC's messages in a body's bytes, however they are cut. What they say is not looked at.
//! Source: gRPC over HTTP/2, "Length-Prefixed-Message"; Envoy's `Grpc::FrameInspector`.

/// Where in a message the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Flag,
    /// So many bytes of the length are still to come.
    Length {
        left: u32,
        value: u32,
    },
    Message {
        left: u32,
    },
    /// Not gRPC after all.
    Lost,
}

#[derive(Clone, Copy, Debug)]
pub struct Frames(At);

/// The lowest bit: compressed. No other is known.
const FLAGS: u8 = 1;

impl Default for Frames {
    fn default() -> Self {
        Frames(At::Flag)
    }
}

impl Frames {
    /// Messages that begin in these bytes.
    pub fn begun(&mut self, mut bytes: &[u8]) -> u64 {
        let mut begun = 0;
        while let Some((first, rest)) = bytes.split_first() {
            (self.0, bytes) = match self.0 {
                At::Flag if *first > FLAGS => (At::Lost, rest),
                At::Flag => {
                    begun += 1;
                    (At::Length { left: 4, value: 0 }, rest)
                }
                At::Length { left, value } => (length(left - 1, value << 8 | u32::from(*first)), rest),
                At::Message { left } => {
                    let passed = bytes.len().min(left as usize);
                    (message(left.saturating_sub(passed as u32)), bytes.get(passed..).unwrap_or_default())
                }
                At::Lost => return begun,
            };
        }
        begun
    }
}

fn length(left: u32, value: u32) -> At {
    if left > 0 { At::Length { left, value } } else { message(value) }
}

fn message(left: u32) -> At {
    if left > 0 { At::Message { left } } else { At::Flag }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: u64) {
        for piece in [1, 2, 3, 7, bytes.len().max(1)] {
            let mut frames = Frames::default();
            let begun: u64 = bytes.chunks(piece).map(|piece| frames.begun(piece)).sum();
            assert_eq!(begun, expected, "{bytes:?} by {piece}");
        }
    }

    #[test]
    fn messages() {
        check(b"", 0);
        check(b"\0", 1);
        check(b"\0\0\0\0\0", 1);
        check(b"\0\0\0\0\x02ab\x01\0\0\0\x01c", 2);
        check(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 3);
        check(b"\0\0\0\x01\0a", 1);
        check(b"\0\xff\xff\xff\xffabc", 1);
        check(b"\0\0\0\0\0GET / HTTP/1.1", 1);
    }
}
