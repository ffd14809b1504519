//! Looks at a connection's first bytes without taking them: TLS and its server name, HTTP, PROXY headers.
//! Source: Envoy's listener filters tls_inspector, http_inspector, proxy_protocol.

use std::net::SocketAddr;

use rustls::server::Acceptor;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::io::Prefixed;

/// What the first bytes told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub tls: bool,
    /// Lower case.
    pub server_name: String,
    pub protocols: Vec<String>,
}

/// Bytes that are looked at, at most.
const LARGEST: usize = 64 << 10;

/// A look at what has come so far.
enum Look<T> {
    /// More bytes are needed.
    More,
    Done(T),
}

/// Reads until `look` knows, and puts everything back. `None`: the peer is gone, or sends without end.
async fn peek<T>(io: &mut Prefixed<TcpStream>, look: impl Fn(&[u8]) -> Look<T>) -> Option<(T, Vec<u8>)> {
    let mut seen = Vec::new();
    loop {
        if let Look::Done(found) = look(&seen) {
            return Some((found, seen));
        }
        let mut chunk = [0u8; 2048];
        let n = match io.read(&mut chunk).await {
            Ok(0) | Err(_) => {
                io.unread(seen);
                return None;
            }
            Ok(n) => n,
        };
        seen.extend_from_slice(chunk.get(..n)?);
        if seen.len() > LARGEST {
            return None;
        }
    }
}

/// Is it TLS, and for whom?
pub async fn tls(io: &mut Prefixed<TcpStream>) -> Option<Seen> {
    let (seen, bytes) = peek(io, client_hello).await?;
    io.unread(bytes);
    Some(seen)
}

fn client_hello(bytes: &[u8]) -> Look<Seen> {
    match bytes.first() {
        None => return Look::More,
        // A TLS record that carries a handshake.
        Some(0x16) => {}
        Some(_) => return Look::Done(Seen::default()),
    }
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return Look::Done(Seen::default());
        }
    }
    match acceptor.accept() {
        Ok(None) => Look::More,
        Err(_) => Look::Done(Seen::default()),
        Ok(Some(accepted)) => {
            let hello = accepted.client_hello();
            let alpn = hello.alpn().into_iter().flatten();
            Look::Done(Seen {
                tls: true,
                server_name: hello.server_name().unwrap_or("").to_ascii_lowercase(),
                protocols: alpn.map(|p| String::from_utf8_lossy(p).into_owned()).collect(),
            })
        }
    }
}

/// Which HTTP is spoken; `Some(None)`: none.
pub async fn http(io: &mut Prefixed<TcpStream>) -> Option<Option<&'static str>> {
    let (found, bytes) = peek(io, first_line).await?;
    io.unread(bytes);
    Some(found)
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn first_line(bytes: &[u8]) -> Look<Option<&'static str>> {
    if bytes.is_empty() {
        return Look::More;
    }
    if PREFACE.starts_with(bytes.get(..PREFACE.len()).unwrap_or(bytes)) {
        return if bytes.len() < PREFACE.len() { Look::More } else { Look::Done(Some("h2c")) };
    }
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let method = bytes.iter().take_while(|b| token(b)).count();
    match bytes.get(method) {
        // A method may be longer than what has come, but not without end.
        None if method <= 32 => return Look::More,
        Some(b' ') if method > 0 => {}
        _ => return Look::Done(None),
    }
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
        return if bytes.len() > LARGEST / 2 { Look::Done(None) } else { Look::More };
    };
    let line = bytes.get(..end).unwrap_or(&[]).trim_ascii_end();
    Look::Done(match () {
        () if line.ends_with(b" HTTP/1.1") => Some("http/1.1"),
        () if line.ends_with(b" HTTP/1.0") => Some("http/1.0"),
        () => None,
    })
}

/// The addresses that a PROXY header tells: source, destination. `Ok(None)`: a header without addresses.
///
/// # Errors
/// No header, or a broken one.
pub async fn proxy_protocol(io: &mut Prefixed<TcpStream>) -> Result<Option<(SocketAddr, SocketAddr)>, NoHeader> {
    let Some((found, mut bytes)) = peek(io, proxy_header).await else { return Err(NoHeader::Broken) };
    match found {
        Ok((length, addresses)) => {
            io.unread(bytes.split_off(length));
            Ok(addresses)
        }
        Err(why) => {
            io.unread(bytes);
            Err(why)
        }
    }
}

/// Why there are no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHeader {
    /// The first bytes are something else.
    Absent,
    Broken,
}

type Header = Result<(usize, Option<(SocketAddr, SocketAddr)>), NoHeader>;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn proxy_header(bytes: &[u8]) -> Look<Header> {
    let begins = |magic: &[u8]| magic.starts_with(bytes.get(..magic.len()).unwrap_or(bytes));
    match () {
        () if begins(V2) => version_2(bytes),
        () if begins(V1) => version_1(bytes),
        () => Look::Done(Err(NoHeader::Absent)),
    }
}

/// Source: the PROXY protocol, section 2.1: one line of at most 107 bytes.
fn version_1(bytes: &[u8]) -> Look<Header> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < 107 { Look::More } else { Look::Done(Err(NoHeader::Broken)) };
    };
    let line = bytes.get(..end).and_then(|line| std::str::from_utf8(line).ok()).unwrap_or("");
    let words: Vec<&str> = line.split(' ').collect();
    let header = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok((end + 2, None)),
        ["PROXY", "TCP4" | "TCP6", from, to, from_port, to_port] => {
            let address = |ip: &str, port: &str| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?));
            match (address(from, from_port), address(to, to_port)) {
                (Some(from), Some(to)) => Ok((end + 2, Some((from, to)))),
                _ => Err(NoHeader::Broken),
            }
        }
        _ => Err(NoHeader::Broken),
    };
    Look::Done(header)
}

/// Source: the PROXY protocol, section 2.2.
fn version_2(bytes: &[u8]) -> Look<Header> {
    let (Some(kind), Some(family), Some(&[high, low])) = (bytes.get(12), bytes.get(13), bytes.get(14..16)) else {
        return Look::More;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let Some(body) = bytes.get(16..16 + length) else { return Look::More };
    let end = 16 + length;
    Look::Done(match (kind, family) {
        // LOCAL: the proxy speaks for itself.
        (0x20, _) => Ok((end, None)),
        (0x21, 0x11) => addresses::<4>(body).map(|found| (end, Some(found))).ok_or(NoHeader::Broken),
        (0x21, 0x21) => addresses::<16>(body).map(|found| (end, Some(found))).ok_or(NoHeader::Broken),
        (0x21, _) => Ok((end, None)),
        _ => Err(NoHeader::Broken),
    })
}

fn addresses<const N: usize>(body: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    std::net::IpAddr: From<[u8; N]>,
{
    let ip = |at: usize| <[u8; N]>::try_from(body.get(at..at + N)?).ok().map(std::net::IpAddr::from);
    let port = |at: usize| <[u8; 2]>::try_from(body.get(at..at + 2)?).ok().map(u16::from_be_bytes);
    let from = SocketAddr::new(ip(0)?, port(2 * N)?);
    Some((from, SocketAddr::new(ip(N)?, port(2 * N + 2)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        let check = |bytes: &[u8], expected: Option<Option<&str>>| {
            let got = match first_line(bytes) {
                Look::More => None,
                Look::Done(found) => Some(found),
            };
            assert_eq!(got, expected, "{}", bytes.escape_ascii());
        };
        check(b"GET / HTTP/1.1\r\n", Some(Some("http/1.1")));
        check(b"GET / HTTP/1.0\n", Some(Some("http/1.0")));
        check(b"GET / HT", None);
        check(PREFACE, Some(Some("h2c")));
        check(b"PRI * HT", None);
        check(b"\x00\x01", Some(None));
        check(b"*1\r\n$4\r\nPING\r\n", Some(None));
        check(b"hello world\n", Some(None));
    }

    #[test]
    fn proxy_headers() {
        let check = |bytes: &[u8], expected: Option<Header>| {
            let got = match proxy_header(bytes) {
                Look::More => None,
                Look::Done(found) => Some(found),
            };
            assert_eq!(got, expected, "{}", bytes.escape_ascii());
        };
        let (from, to) = ("1.2.3.4:56".parse().unwrap(), "5.6.7.8:90".parse().unwrap());
        check(b"PROXY TCP4 1.2.3.4 5.6.7.8 56 90\r\nGET", Some(Ok((34, Some((from, to))))));
        check(b"PROXY UNKNOWN\r\n", Some(Ok((15, None))));
        check(b"PROXY TCP4 1.2.3.4", None);
        check(b"PROXY TCP4 x y 1 2\r\n", Some(Err(NoHeader::Broken)));
        check(b"GET / ", Some(Err(NoHeader::Absent)));
        let mut v2 = V2.to_vec();
        v2.extend([0x21, 0x11, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 0, 56, 0, 90]);
        check(&v2, Some(Ok((28, Some((from, to))))));
        check(&v2[..20], None);
    }
}
