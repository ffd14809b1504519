//! Capture rules as text for `iptables-restore --noflush`. Pure.
//!
//! Source: Istio's `tools/istio-iptables`; the chains are our own, so that nothing else is touched. Rules of a chain are replaced as a
//! whole, for naming a chain in the text empties it.

use std::fmt::Write;

use injector::ports::PortRange;
use ipnet::IpNet;

/// The user and group that the sidecar runs as.
pub(crate) const PROXY: u32 = 1337;
/// Where the sidecar's connections to its own process come from, over IPv6.
pub(crate) const PASSED_ON_V6: &str = "::6/128";
/// The sidecar's own ports, which are never captured.
const OWN_PORTS: [u16; 4] = [15008, 15020, 15021, 15090];
/// How many ports one rule may hold.
const PORTS_A_RULE: usize = 15;

/// Chains, and the chain of the kernel's that each hangs on; those that only others name hang on none.
pub(crate) const CHAINS: [(&str, Option<&str>); 4] = [
    ("OUTRIGGER_INBOUND", Some("PREROUTING")),
    ("OUTRIGGER_OUTPUT", Some("OUTPUT")),
    ("OUTRIGGER_IN_REDIRECT", None),
    ("OUTRIGGER_REDIRECT", None),
];

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What is captured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Only these; empty: all. Beside ranges, not within them.
    pub(crate) include_outbound_ports: Vec<PortRange>,
    pub(crate) exclude_outbound_ports: Vec<PortRange>,
    /// Only these; empty: all.
    pub(crate) include_outbound_cidrs: Vec<IpNet>,
    pub(crate) exclude_outbound_cidrs: Vec<IpNet>,
    /// Only these; empty: all.
    pub(crate) include_inbound_ports: Vec<PortRange>,
    pub(crate) exclude_inbound_ports: Vec<PortRange>,
    /// DNS too, to the sidecar's port 15053.
    pub(crate) dns: bool,
}

/// The jumps into our chains.
pub(crate) fn jumps() -> Vec<String> {
    let jump = |(chain, from): &(&str, Option<&str>)| from.map(|from| format!("{from} -p tcp -j {chain}"));
    CHAINS.iter().filter_map(jump).collect()
}

/// The text that puts the rules in place, after taking out `old`, lines as `PREROUTING -p tcp -j OUTRIGGER_INBOUND`.
pub(crate) fn apply(wanted: &Wanted, family: Family, old: &[String]) -> String {
    let mut text = begin(old);
    for line in inbound(wanted).into_iter().chain(outbound(wanted, family)) {
        let _ = writeln!(text, "-A {line}");
    }
    for jump in jumps() {
        let _ = writeln!(text, "-A {jump}");
    }
    if wanted.dns {
        let _ = writeln!(text, "-A OUTPUT {DNS}");
    }
    text + "COMMIT\n"
}

/// The jump for DNS, which goes past the chains.
const DNS: &str = "-p udp -m udp --dport 53 -m owner ! --uid-owner 1337 -m comment --comment outrigger-dns -j REDIRECT --to-ports 15053";

/// The text that takes everything out that is ours.
pub(crate) fn remove(old: &[String]) -> String {
    let mut text = begin(old);
    for (chain, _) in CHAINS {
        let _ = writeln!(text, "-X {chain}");
    }
    text + "COMMIT\n"
}

fn begin(old: &[String]) -> String {
    let mut text = "*nat\n".to_owned();
    for (chain, _) in CHAINS {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    for line in old {
        let _ = writeln!(text, "-D {line}");
    }
    text
}

/// The lines of a saved table that are ours and stand in the kernel's own chains.
pub(crate) fn ours(saved: &str) -> Vec<String> {
    let ours = |line: &&str| line.contains("-j OUTRIGGER_") || line.contains("outrigger-dns");
    let kernel = |line: &&str| ["-A PREROUTING ", "-A OUTPUT "].iter().any(|chain| line.starts_with(chain));
    saved.lines().filter(ours).filter(kernel).filter_map(|line| line.strip_prefix("-A ")).map(str::to_owned).collect()
}

fn inbound(wanted: &Wanted) -> Vec<String> {
    let mut lines = vec!["OUTRIGGER_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006".to_owned()];
    let mut excluded: Vec<PortRange> = OWN_PORTS.map(PortRange::from).to_vec();
    excluded.extend(&wanted.exclude_inbound_ports);
    lines.extend(ports("OUTRIGGER_INBOUND", &excluded, "RETURN"));
    if wanted.include_inbound_ports.is_empty() {
        lines.push("OUTRIGGER_INBOUND -p tcp -j OUTRIGGER_IN_REDIRECT".to_owned());
    } else {
        lines.extend(ports("OUTRIGGER_INBOUND", &wanted.include_inbound_ports, "OUTRIGGER_IN_REDIRECT"));
    }
    lines
}

fn outbound(wanted: &Wanted, family: Family) -> Vec<String> {
    let (loopback, passthrough) = match family {
        Family::V4 => ("127.0.0.1/32", "127.0.0.6/32"),
        Family::V6 => ("::1/128", PASSED_ON_V6),
    };
    let chain = "OUTRIGGER_OUTPUT";
    let mut lines = vec![
        "OUTRIGGER_REDIRECT -p tcp -j REDIRECT --to-ports 15001".to_owned(),
        // What the sidecar passes on to its own process.
        format!("{chain} -s {passthrough} -o lo -j RETURN"),
    ];
    for owner in [format!("--uid-owner {PROXY}"), format!("--gid-owner {PROXY}")] {
        lines.extend([
            // A call of the process to itself that the sidecar sends on comes back in through it.
            format!(
                "{chain} ! -d {loopback} -o lo -p tcp -m tcp ! --dport 15008 -m owner {owner} -j OUTRIGGER_IN_REDIRECT"
            ),
            // What stays on this host and is not the sidecar's is nobody's business.
            format!("{chain} -o lo -m owner ! {owner} -j RETURN"),
            format!("{chain} -m owner {owner} -j RETURN"),
        ]);
    }
    lines.push(format!("{chain} -d {loopback} -j RETURN"));
    let of_family = |net: &&IpNet| matches!((net, family), (IpNet::V4(_), Family::V4) | (IpNet::V6(_), Family::V6));
    let ranges = |nets: &[IpNet], target: &str| -> Vec<String> {
        nets.iter().filter(of_family).map(|net| format!("{chain} -d {net} -j {target}")).collect()
    };
    lines.extend(ports(chain, &wanted.exclude_outbound_ports, "RETURN"));
    lines.extend(ranges(&wanted.exclude_outbound_cidrs, "RETURN"));
    lines.extend(ports(chain, &wanted.include_outbound_ports, "OUTRIGGER_REDIRECT"));
    lines.extend(ranges(&wanted.include_outbound_cidrs, "OUTRIGGER_REDIRECT"));
    if wanted.include_outbound_ports.is_empty() && wanted.include_outbound_cidrs.is_empty() {
        lines.push(format!("{chain} -j OUTRIGGER_REDIRECT"));
    }
    lines
}

/// A range takes the room of two ports.
fn ports(chain: &str, ports: &[PortRange], target: &str) -> Vec<String> {
    let room = |range: &PortRange| if range.is_range() { 2 } else { 1 };
    let mut rules: Vec<Vec<PortRange>> = Vec::new();
    for range in ports {
        match rules.last_mut() {
            Some(rule) if rule.iter().map(room).sum::<usize>() + room(range) <= PORTS_A_RULE => rule.push(*range),
            _ => rules.push(vec![*range]),
        }
    }
    let list = |rule: &Vec<PortRange>| rule.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    rules.iter().map(|rule| format!("{chain} -p tcp -m multiport --dports {} -j {target}", list(rule))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with a golden file; `UPDATE_GOLDEN=1` rewrites it.
    fn check(name: &str, got: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/capture").join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, got).unwrap();
        }
        assert_eq!(got, std::fs::read_to_string(&path).unwrap_or_default(), "{name}");
    }

    #[test]
    fn rules() {
        check("all.v4", &apply(&Wanted::default(), Family::V4, &[]));
        check("all.v6", &apply(&Wanted::default(), Family::V6, &[]));
        let wanted = Wanted {
            include_outbound_ports: vec![80.into()],
            exclude_outbound_ports: (9000..9020).map(PortRange::from).chain(["7000-7010".parse().unwrap()]).collect(),
            include_outbound_cidrs: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            exclude_outbound_cidrs: vec!["10.9.0.0/16".parse().unwrap()],
            include_inbound_ports: vec![8080.into(), 8081.into()],
            exclude_inbound_ports: vec![22.into()],
            dns: true,
        };
        check("chosen.v4", &apply(&wanted, Family::V4, &[]));
        check("chosen.v6", &apply(&wanted, Family::V6, &[]));
    }

    #[test]
    fn what_is_there_is_replaced() {
        let saved = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j OUTRIGGER_INBOUND\n-A OUTPUT -p tcp -j OUTRIGGER_OUTPUT\n-A OUTPUT -j DOCKER\n-A OUTRIGGER_INBOUND -p tcp -j OUTRIGGER_IN_REDIRECT\nCOMMIT\n";
        let old = ours(saved);
        assert_eq!(old, jumps());
        check("remove", &remove(&old));
    }
}
