//! At which connections a listener filter does not look, by the port that they were meant for.
//!
//! Source: `envoy.config.listener.v3.ListenerFilterChainMatchPredicate`.

use std::ops::Range;

/// A rule over a connection's destination port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disabled {
    /// The filter looks at every connection.
    Never,
    /// At none.
    Always,
    /// Not at those to these ports.
    Ports(Range<u16>),
    /// Not at those that any of these means.
    Any(Vec<Disabled>),
    /// Not at those that all of these mean.
    All(Vec<Disabled>),
    /// Only at those that this means.
    Not(Box<Disabled>),
}

impl Disabled {
    /// Whether the filter does not look at a connection to `port`.
    pub fn at(&self, port: u16) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Ports(ports) => ports.contains(&port),
            Self::Any(rules) => rules.iter().any(|rule| rule.at(port)),
            Self::All(rules) => rules.iter().all(|rule| rule.at(port)),
            Self::Not(rule) => !rule.at(port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Disabled::*;

    #[test]
    fn rules() {
        let databases = || Any(vec![Ports(3306..3307), Ports(27017..27018)]);
        let cases = [
            (Never, 80, false),
            (Always, 80, true),
            (Ports(80..82), 81, true),
            (Ports(80..82), 82, false),
            (databases(), 27017, true),
            (databases(), 80, false),
            (Not(Box::new(databases())), 3306, false),
            (All(vec![Ports(1..100), Not(Box::new(Ports(50..60)))]), 55, false),
            (All(vec![Ports(1..100), Not(Box::new(Ports(50..60)))]), 61, true),
        ];
        for (rule, port, expected) in cases {
            assert_eq!(rule.at(port), expected, "{rule:?} {port}");
        }
    }
}
