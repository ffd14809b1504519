//! Ports and ranges of ports, as annotations and `outrigger capture` name them, and which of a pod's own ports are captured.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::PREFIX;

/// Ports from one to another, both among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// What is neither a port nor a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no number from 1 to 65535, and no range as 8000-8010 is")]
pub struct BadPorts(String);

impl PortRange {
    /// Whether it is more than one port.
    #[must_use]
    pub const fn is_range(self) -> bool {
        self.first != self.last
    }

    /// Whether a port is among them.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl From<u16> for PortRange {
    fn from(port: u16) -> Self {
        Self { first: port, last: port }
    }
}

impl FromStr for PortRange {
    type Err = BadPorts;

    /// `80`, `8000-8010`, or `*` for all.
    fn from_str(text: &str) -> Result<Self, BadPorts> {
        let bad = || BadPorts(text.to_owned());
        let port = |text: &str| u16::from_str(text).ok().filter(|port| *port != 0).ok_or_else(bad);
        if text == "*" {
            return Ok(Self { first: 1, last: u16::MAX });
        }
        let range = match text.split_once('-') {
            Some((first, last)) => Self { first: port(first)?, last: port(last)? },
            None => Self::from(port(text)?),
        };
        if range.first <= range.last { Ok(range) } else { Err(bad()) }
    }
}

/// As iptables writes it: `80`, `8000:8010`.
impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_range() {
            true => write!(f, "{}:{}", self.first, self.last),
            false => write!(f, "{}", self.first),
        }
    }
}

/// Which connections that come into a pod are captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inbound {
    nothing: bool,
    /// Empty: all.
    include: Vec<PortRange>,
    exclude: Vec<PortRange>,
}

impl Inbound {
    /// As a pod's annotations have it. What cannot be meant was refused when the pod was made, and counts for nothing here.
    #[must_use]
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        let get = |name: &str| annotations.get(&format!("{PREFIX}{name}")).map(|text| text.trim());
        let ports = |name: &str| {
            let items = get(name).unwrap_or_default().split(',');
            items.filter_map(|item| item.trim().parse().ok()).collect()
        };
        Self {
            nothing: get("capture") == Some("none"),
            include: ports("include-inbound-ports"),
            exclude: ports("exclude-inbound-ports"),
        }
    }

    /// Whether the sidecar answers at a port.
    #[must_use]
    pub fn captures(&self, port: u16) -> bool {
        let among = |ranges: &[PortRange]| ranges.iter().any(|range| range.contains(port));
        !self.nothing && !among(&self.exclude) && (self.include.is_empty() || among(&self.include))
    }

    /// Whether it answers nowhere.
    #[must_use]
    pub const fn captures_nothing(&self) -> bool {
        self.nothing
    }

    /// The ports that are left out by name, ranges aside.
    pub fn excluded(&self) -> impl Iterator<Item = u16> + '_ {
        self.exclude.iter().filter(|range| !range.is_range()).map(|range| range.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, written) in [("80", "80"), ("8000-8010", "8000:8010"), ("7-7", "7"), ("*", "1:65535")] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), written);
        }
        for text in ["", "0", "65536", "http", "10-9", "1-", "-1", "1-2-3", " 80"] {
            let said = text.parse::<PortRange>().unwrap_err().to_string();
            assert!(said.contains(&format!("`{text}`")), "{said}");
        }
    }

    #[test]
    fn captured() {
        for (annotations, port, expected) in [
            (&[][..], 80, true),
            (&[("exclude-inbound-ports", "22, 9000-9010")], 9005, false),
            (&[("exclude-inbound-ports", "22,9000-9010")], 9011, true),
            (&[("include-inbound-ports", "8080")], 8080, true),
            (&[("include-inbound-ports", "8080")], 8081, false),
            (&[("include-inbound-ports", "*"), ("exclude-inbound-ports", "22")], 22, false),
            (&[("capture", "none")], 80, false),
            (&[("exclude-outbound-ports", "80")], 80, true),
        ] {
            let annotations = annotations.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()));
            let annotations: BTreeMap<_, _> = annotations.collect();
            assert_eq!(Inbound::of(&annotations).captures(port), expected, "{annotations:?} {port}");
        }
    }
}
