//! What a pod's annotations say of its sidecar.

use std::collections::BTreeMap;
use std::str::FromStr;

use ipnet::IpNet;

use crate::PREFIX;
use crate::ports::PortRange;

/// An annotation that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {PREFIX}{name}: `{value}` is {wrong}")]
pub struct BadAnnotation {
    /// Without the prefix.
    pub name: &'static str,
    /// As it is written.
    pub value: String,
    /// What is wrong, and what would be right.
    pub wrong: String,
}

/// How connections come to the sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Capture {
    /// By iptables rules, made by an init step.
    #[default]
    Iptables,
    /// By eBPF programs of the node, which need no init step.
    Ebpf,
    /// Not at all.
    None,
}

/// What a pod's annotations say; what they leave open is `None`, empty or the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Flags of `outrigger capture apply`, in a fixed order.
    pub capture_flags: Vec<String>,
    /// How connections come to the sidecar.
    pub capture: Capture,
    /// Requests.
    pub cpu: Option<String>,
    pub memory: Option<String>,
    /// Limits.
    pub cpu_limit: Option<String>,
    pub memory_limit: Option<String>,
    pub image: Option<String>,
    pub log_level: Option<String>,
    /// Percent.
    pub trace_sampling: Option<String>,
    /// Whether the application waits for the sidecar.
    pub hold_application: bool,
    pub native: Option<bool>,
    pub keep_probes: bool,
    pub drain_seconds: Option<u32>,
}

impl Options {
    /// Reads annotations.
    ///
    /// # Errors
    /// The first that cannot be meant.
    pub fn read(annotations: &BTreeMap<String, String>) -> Result<Self, BadAnnotation> {
        let read = Annotations(annotations);
        let mut capture_flags = Vec::new();
        for name in
            ["include-outbound-ports", "exclude-outbound-ports", "include-inbound-ports", "exclude-inbound-ports"]
        {
            capture_flags.extend(read.list(name, port)?.map(|list| format!("--{name}={list}")));
        }
        for name in ["include-outbound-cidrs", "exclude-outbound-cidrs"] {
            capture_flags.extend(read.list(name, cidr)?.map(|list| format!("--{name}={list}")));
        }
        let words = ["iptables", "ebpf", "none"];
        read.bounded("proxy-cpu", "proxy-cpu-limit")?;
        read.bounded("proxy-memory", "proxy-memory-limit")?;
        Ok(Self {
            capture_flags,
            capture: match read.word("capture", &words)?.as_deref() {
                Some("ebpf") => Capture::Ebpf,
                Some("none") => Capture::None,
                _ => Capture::Iptables,
            },
            cpu: read.quantity("proxy-cpu")?,
            memory: read.quantity("proxy-memory")?,
            cpu_limit: read.quantity("proxy-cpu-limit")?,
            memory_limit: read.quantity("proxy-memory-limit")?,
            image: read.checked("proxy-image", image)?,
            log_level: read
                .word("log-level", &["trace", "debug", "info", "warn", "warning", "error", "critical", "off"])?,
            trace_sampling: read.checked("trace-sampling", percent)?,
            hold_application: read.flag("hold-application")?.unwrap_or(false),
            native: read.flag("native-sidecar")?,
            keep_probes: read.flag("rewrite-probes")? == Some(false),
            drain_seconds: read.checked("drain-seconds", seconds)?.and_then(|text| text.parse().ok()),
        })
    }

    /// Annotations under our prefix that nobody reads: slips of the pen, most likely.
    #[must_use]
    pub fn unknown(annotations: &BTreeMap<String, String>) -> Vec<String> {
        let ours = annotations.keys().filter(|name| name.starts_with(PREFIX));
        ours.filter(|name| !KNOWN.contains(&name.trim_start_matches(PREFIX))).cloned().collect()
    }
}

const KNOWN: [&str; 20] = [
    "include-outbound-ports",
    "exclude-outbound-ports",
    "include-outbound-cidrs",
    "exclude-outbound-cidrs",
    "include-inbound-ports",
    "exclude-inbound-ports",
    "proxy-cpu",
    "proxy-memory",
    "proxy-cpu-limit",
    "proxy-memory-limit",
    "proxy-image",
    "log-level",
    "trace-sampling",
    "hold-application",
    "native-sidecar",
    "rewrite-probes",
    "capture",
    "drain-seconds",
    "status",
    "inject",
];

struct Annotations<'a>(&'a BTreeMap<String, String>);

impl Annotations<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&format!("{PREFIX}{name}")).map(|value| value.trim())
    }

    fn checked(
        &self,
        name: &'static str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Option<String>, BadAnnotation> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match check(value) {
            Ok(()) => Ok(Some(value.to_owned())),
            Err(wrong) => Err(BadAnnotation { name, value: value.to_owned(), wrong }),
        }
    }

    /// A list without blanks and empty items; `None` for an empty one.
    fn list(
        &self,
        name: &'static str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Option<String>, BadAnnotation> {
        let items = |value: &str| -> Vec<String> {
            value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        let value = self.checked(name, |value| items(value).iter().try_for_each(|item| check(item)))?;
        Ok(value.map(|value| items(&value).join(",")).filter(|list| !list.is_empty()))
    }

    fn word(&self, name: &'static str, words: &[&str]) -> Result<Option<String>, BadAnnotation> {
        let known = |value: &str| match words.contains(&value) {
            true => Ok(()),
            false => Err(format!("none of {}", words.join(", "))),
        };
        self.checked(name, known)
    }

    fn flag(&self, name: &'static str) -> Result<Option<bool>, BadAnnotation> {
        Ok(self.word(name, &["true", "false"])?.map(|word| word == "true"))
    }

    /// The API server would refuse the pod, and name neither annotation.
    fn bounded(&self, request: &'static str, limit: &'static str) -> Result<(), BadAnnotation> {
        let (Some(value), Some(most)) = (self.quantity(request)?, self.quantity(limit)?) else { return Ok(()) };
        match amount(&value) > amount(&most) {
            true => Err(BadAnnotation { name: request, value, wrong: format!("more than {PREFIX}{limit}, {most}") }),
            false => Ok(()),
        }
    }

    fn quantity(&self, name: &'static str) -> Result<Option<String>, BadAnnotation> {
        self.checked(name, quantity)
    }
}

fn port(text: &str) -> Result<(), String> {
    PortRange::from_str(text).map(drop).map_err(|error| format!("no list of ports: {error}"))
}

fn cidr(text: &str) -> Result<(), String> {
    IpNet::from_str(text).map(drop).map_err(|_| format!("no list of ranges: `{text}` is none, as 10.0.0.0/8 is"))
}

/// Source: the grammar of package `reference` of github.com/distribution/reference.
fn image(text: &str) -> Result<(), String> {
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    let path_begins = name.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match name[path_begins..].find(':') {
        Some(at) => (&name[..path_begins + at], Some(&name[path_begins + at + 1..])),
        None => (name, None),
    };
    let mut parts: Vec<&str> = name.split('/').collect();
    // The first part is a host if it looks like one.
    if parts.len() > 1 && (parts[0].contains(['.', ':']) || parts[0] == "localhost") && host(parts[0]) {
        parts.remove(0);
    }
    let good = parts.into_iter().all(component) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest);
    good.then_some(()).ok_or_else(|| "no image, as registry.example/outrigger:1.0 is".to_owned())
}

fn host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let label = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let name = name.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).map_or_else(
        || !name.is_empty() && name.chars().all(label) && !name.starts_with(['-', '.']),
        |ip| ip.parse::<std::net::Ipv6Addr>().is_ok(),
    );
    name && port.is_none_or(|port| u16::from_str(port).is_ok())
}

fn component(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.chars().all(inside) && end(text.chars().next()) && end(text.chars().next_back())
}

fn is_tag(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=128).contains(&text.len()) && text.chars().all(inside) && !text.starts_with(['.', '-'])
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hash)| {
        !algorithm.is_empty() && hash.len() >= 32 && hash.chars().all(|c| c.is_ascii_hexdigit())
    })
}

fn percent(text: &str) -> Result<(), String> {
    let good = text.parse::<f64>().is_ok_and(|value| (0.0..=100.0).contains(&value));
    good.then_some(()).ok_or_else(|| "no percentage from 0 to 100".to_owned())
}

fn seconds(text: &str) -> Result<(), String> {
    u32::from_str(text).map(drop).map_err(|_| "no number of seconds".to_owned())
}

fn quantity(text: &str) -> Result<(), String> {
    amount(text).map(drop).ok_or_else(|| "no quantity, as 100m or 64Mi is".to_owned())
}

/// Source: Kubernetes `resource.Quantity`.
fn amount(text: &str) -> Option<f64> {
    const DECIMAL: [(&str, i32); 10] =
        [("", 0), ("n", -9), ("u", -6), ("m", -3), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    if let Some(at) = BINARY.iter().position(|binary| *binary == suffix) {
        return Some(number * 1024_f64.powi(i32::try_from(at).ok()? + 1));
    }
    let decimal = DECIMAL.iter().find(|(decimal, _)| *decimal == suffix).map(|(_, power)| *power);
    let exponent = || i8::from_str(suffix.strip_prefix(['e', 'E'])?).ok().map(i32::from);
    Some(number * 10_f64.powi(decimal.or_else(exponent)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> Result<Options, String> {
        let annotations = BTreeMap::from([(format!("{PREFIX}{name}"), value.to_owned())]);
        Options::read(&annotations).map_err(|error| error.to_string())
    }

    #[test]
    fn good_and_bad() {
        let good = [
            ("exclude-outbound-ports", "5432, 6379"),
            ("exclude-inbound-ports", "22,8000-8010"),
            ("include-inbound-ports", "*"),
            ("include-outbound-cidrs", "10.0.0.0/8,fd00::/8"),
            ("proxy-cpu", "250m"),
            ("proxy-memory", "1.5Gi"),
            ("proxy-memory-limit", "1e3"),
            ("log-level", "debug"),
            ("trace-sampling", "12.5"),
            ("capture", "ebpf"),
            ("drain-seconds", "20"),
            ("native-sidecar", "false"),
            ("proxy-image", "outrigger"),
            ("proxy-image", "registry.test:5000/a/b_c:v1.2"),
            ("proxy-image", "[fd00::1]:5000/a@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
        ];
        for (name, value) in good {
            assert!(check(name, value).is_ok(), "{name}={value}");
        }
        let bad = [
            ("exclude-outbound-ports", "80,http"),
            ("include-inbound-ports", "0"),
            ("exclude-inbound-ports", "90-80"),
            ("include-outbound-cidrs", "10.0.0.0/33"),
            ("proxy-memory", "lots"),
            ("proxy-cpu", ""),
            ("proxy-image", ""),
            ("proxy-image", "a b"),
            ("proxy-image", ":5"),
            ("proxy-image", "UPPER/case"),
            ("proxy-image", "http://a/b"),
            ("proxy-image", "a:b:c"),
            ("proxy-image", "a@sha256:12"),
            ("log-level", "loud"),
            ("trace-sampling", "101"),
            ("capture", "tproxy9"),
            ("hold-application", "yes"),
            ("drain-seconds", "-1"),
        ];
        for (name, value) in bad {
            let said = check(name, value).unwrap_err();
            assert!(said.contains(&format!("outrigger.dev/{name}")) && said.contains(value), "{said}");
        }
        let both = |request: &str, limit: &str| {
            let of = |name: &str, value: &str| (format!("{PREFIX}{name}"), value.to_owned());
            Options::read(&[of("proxy-memory", request), of("proxy-memory-limit", limit)].into()).map(drop)
        };
        assert_eq!(both("1Gi", "1024Mi"), Ok(()));
        assert_eq!(both("1G", "1Gi"), Ok(()));
        let said = both("1Gi", "1G").unwrap_err().to_string();
        assert_eq!(
            said,
            "annotation outrigger.dev/proxy-memory: `1Gi` is more than outrigger.dev/proxy-memory-limit, 1G"
        );
        assert_eq!(check("exclude-outbound-ports", "1, 2").unwrap().capture_flags, ["--exclude-outbound-ports=1,2"]);
    }

    #[test]
    fn slips_of_the_pen() {
        let annotations = ["outrigger.dev/proxy-cpus", "outrigger.dev/proxy-cpu", "other/x"];
        let annotations = annotations.map(|name| (name.to_owned(), String::new())).into();
        assert_eq!(Options::unknown(&annotations), ["outrigger.dev/proxy-cpus"]);
    }
}
