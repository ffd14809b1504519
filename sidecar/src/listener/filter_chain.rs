//! Which filter chain serves a connection: the most specific one, criterion by criterion.
//! Source: `FilterChainMatch`, whose comment gives the order; a more specific match at one criterion is never
//! given up for a later one.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// What a chain asks of connections; an empty list asks nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    pub destination_port: Option<u16>,
    pub destinations: Vec<IpNet>,
    /// Lower case; `*.example.com` as such.
    pub server_names: Vec<String>,
    pub transport: String,
    pub protocols: Vec<String>,
    pub direct_sources: Vec<IpNet>,
    pub source_type: SourceType,
    pub sources: Vec<IpNet>,
    pub source_ports: Vec<u16>,
}

/// Source: `FilterChainMatch.ConnectionSourceType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceType {
    #[default]
    Any,
    /// From this host.
    Same,
    External,
}

/// What is known of a connection before a chain is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub direct_remote: SocketAddr,
    /// Lower case; empty if none.
    pub server_name: &'a str,
    /// `tls` or `raw_buffer`.
    pub transport: &'a str,
    pub protocols: &'a [String],
}

/// How well a match fits a connection at one criterion; `None`: not at all.
type Criterion<'a> = &'a dyn Fn(&Match) -> Option<usize>;

/// The index of the chain that fits best.
pub fn choose<'a>(matches: impl Iterator<Item = &'a Match>, facts: &Facts<'_>) -> Option<usize> {
    let mut left: Vec<(usize, &Match)> = matches.enumerate().collect();
    let criteria: [Criterion<'_>; 9] = [
        &|m| exact(m.destination_port, facts.local.port()),
        &|m| longest(&m.destinations, facts.local.ip()),
        &|m| server_name(&m.server_names, facts.server_name),
        &|m| text(&m.transport, facts.transport),
        &|m| any_of(&m.protocols, |p| facts.protocols.iter().any(|offered| offered == p)),
        &|m| longest(&m.direct_sources, facts.direct_remote.ip()),
        &|m| source_type(m.source_type, facts),
        &|m| longest(&m.sources, facts.remote.ip()),
        &|m| any_of(&m.source_ports, |port| *port == facts.remote.port()),
    ];
    for criterion in criteria {
        let scored: Vec<_> = left.iter().filter_map(|(at, m)| Some((criterion(m)?, *at, *m))).collect();
        let best = scored.iter().map(|(score, ..)| *score).max()?;
        left = scored.into_iter().filter(|(score, ..)| *score == best).map(|(_, at, m)| (at, m)).collect();
    }
    left.first().map(|(at, _)| *at)
}

/// 0: nothing is asked; more: the more specific, the more.
type Score = Option<usize>;

fn exact(wanted: Option<u16>, port: u16) -> Score {
    match wanted {
        None => Some(0),
        Some(wanted) => (wanted == port).then_some(1),
    }
}

fn longest(nets: &[IpNet], ip: IpAddr) -> Score {
    if nets.is_empty() {
        return Some(0);
    }
    nets.iter().filter(|net| net.contains(&ip)).map(|net| 1 + usize::from(net.prefix_len())).max()
}

fn server_name(names: &[String], asked: &str) -> Score {
    if names.is_empty() {
        return Some(0);
    }
    let score = |name: &String| match name.strip_prefix('*') {
        None => (name == asked).then_some(usize::MAX),
        Some(suffix) => (asked.len() > suffix.len() && asked.ends_with(suffix)).then_some(1 + suffix.len()),
    };
    names.iter().filter_map(score).max()
}

fn text(wanted: &str, found: &str) -> Score {
    if wanted.is_empty() { Some(0) } else { (wanted == found).then_some(1) }
}

fn any_of<T>(wanted: &[T], fits: impl Fn(&T) -> bool) -> Score {
    if wanted.is_empty() { Some(0) } else { wanted.iter().any(fits).then_some(1) }
}

fn source_type(wanted: SourceType, facts: &Facts<'_>) -> Score {
    let same = facts.remote.ip().is_loopback() || facts.remote.ip() == facts.local.ip();
    match wanted {
        SourceType::Any => Some(0),
        SourceType::Same => same.then_some(1),
        SourceType::External => (!same).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(matches: &[Match], server_name: &str, transport: &str, expected: Option<usize>) {
        let address = "10.0.0.1:443".parse().unwrap();
        let protocols = ["h2".to_owned()];
        let facts = Facts {
            local: address,
            remote: "10.1.0.9:5000".parse().unwrap(),
            direct_remote: "10.1.0.9:5000".parse().unwrap(),
            server_name,
            transport,
            protocols: &protocols,
        };
        assert_eq!(choose(matches.iter(), &facts), expected, "{server_name} {transport}");
    }

    #[test]
    fn the_most_specific_chain_serves() {
        let named = |name: &str| Match { server_names: vec![name.to_owned()], ..Match::default() };
        let all = [named("*.b.c"), named("a.b.c"), named("*.c"), Match::default()];
        check(&all, "a.b.c", "tls", Some(1));
        check(&all, "x.b.c", "tls", Some(0));
        check(&all, "x.c", "tls", Some(2));
        check(&all, "", "tls", Some(3));
        check(&all[..3], "other", "tls", None);
        let tls = Match { transport: "tls".to_owned(), ..Match::default() };
        let port = Match { destination_port: Some(443), transport: "raw_buffer".to_owned(), ..Match::default() };
        check(&[tls.clone(), Match::default()], "", "raw_buffer", Some(1));
        // The port is decided before the transport, and not taken back.
        check(&[tls, port], "", "tls", None);
    }
}
