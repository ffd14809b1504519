//! Names → addresses, by the system's resolver. One worker's answers are kept for a while, so that a busy
//! name is asked once; nothing here is shared between threads.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Which addresses are taken. Source: `Cluster.DnsLookupFamily`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4Only,
    V6Only,
    V4Preferred,
    V6Preferred,
    All,
}

impl Family {
    /// Keeps what the family says, in the resolver's order.
    pub fn filter(self, addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().copied().partition(IpAddr::is_ipv4);
        match self {
            Family::V4Only => v4,
            Family::V6Only => v6,
            Family::V4Preferred => {
                if v4.is_empty() {
                    v6
                } else {
                    v4
                }
            }
            Family::V6Preferred => {
                if v6.is_empty() {
                    v4
                } else {
                    v6
                }
            }
            Family::All => addresses,
        }
    }
}

/// Asks the system's resolver.
///
/// # Errors
/// The name does not exist, or no server answered.
pub async fn lookup(name: &str, family: Family) -> std::io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((name, 0)).await?.map(|a| a.ip()).collect();
    Ok(family.filter(found))
}

/// A name that can't be resolved is not asked for again for this long.
const FAILED_FOR: Duration = Duration::from_secs(1);
const LARGEST: usize = 1024;

struct Answer {
    addresses: Rc<[IpAddr]>,
    until: Instant,
}

/// Answers of the last while.
#[derive(Default)]
pub struct Cache {
    answers: RefCell<HashMap<String, Answer>>,
}

impl Cache {
    /// An address for a name, or for an address itself. `None`: it can't be resolved.
    pub async fn resolve(&self, name: &str, port: u16, family: Family, refresh: Duration) -> Option<SocketAddr> {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Some(SocketAddr::new(ip, port));
        }
        let held = self.answers.borrow().get(name).filter(|a| a.until > Instant::now()).map(|a| a.addresses.clone());
        let addresses = match held {
            Some(addresses) => addresses,
            None => self.ask(name, family, refresh).await,
        };
        addresses.first().map(|ip| SocketAddr::new(*ip, port))
    }

    async fn ask(&self, name: &str, family: Family, refresh: Duration) -> Rc<[IpAddr]> {
        let addresses: Rc<[IpAddr]> = lookup(name, family).await.unwrap_or_default().into();
        let keep = if addresses.is_empty() { FAILED_FOR } else { refresh };
        let mut answers = self.answers.borrow_mut();
        if answers.len() >= LARGEST {
            answers.retain(|_, answer| answer.until > Instant::now());
        }
        if answers.len() < LARGEST {
            let answer = Answer { addresses: addresses.clone(), until: Instant::now() + keep };
            answers.insert(name.to_owned(), answer);
        }
        addresses
    }
}

/// An authority's name and port.
pub fn split_authority(authority: &str, default_port: u16) -> Option<(&str, u16)> {
    let (name, port) = match authority.rfind(':') {
        Some(at) if !authority[at..].contains(']') => (&authority[..at], authority[at + 1..].parse().ok()?),
        _ => (authority, default_port),
    };
    (!name.is_empty()).then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        let check = |authority, expected| assert_eq!(split_authority(authority, 80), expected, "{authority}");
        check("a", Some(("a", 80)));
        check("a:8080", Some(("a", 8080)));
        check("[::1]:8080", Some(("[::1]", 8080)));
        check("[::1]", Some(("[::1]", 80)));
        check("a:x", None);
        check(":80", None);
    }
}
