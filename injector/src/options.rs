//! What a pod's annotations say of its sidecar.

use std::collections::BTreeMap;
use std::str::FromStr;

use ipnet::IpNet;

use crate::ports::PortRange;

/// Every annotation of ours begins with it.
pub const PREFIX: &str = "outrigger.dev/";

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

fn image(text: &str) -> Result<(), String> {
    match text.is_empty() || text.contains(char::is_whitespace) {
        true => Err("no image".to_owned()),
        false => Ok(()),
    }
}

fn percent(text: &str) -> Result<(), String> {
    let good = text.parse::<f64>().is_ok_and(|value| (0.0..=100.0).contains(&value));
    good.then_some(()).ok_or_else(|| "no percentage from 0 to 100".to_owned())
}

fn seconds(text: &str) -> Result<(), String> {
    u32::from_str(text).map(drop).map_err(|_| "no number of seconds".to_owned())
}

/// Source: Kubernetes `resource.Quantity`.
fn quantity(text: &str) -> Result<(), String> {
    const SUFFIXES: [&str; 15] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|digits| i8::from_str(digits).is_ok());
    let good = number.parse::<f64>().is_ok() && (SUFFIXES.contains(&suffix) || suffix == "Ei" || exponent);
    good.then_some(()).ok_or_else(|| "no quantity, as 100m or 64Mi is".to_owned())
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
        assert_eq!(check("exclude-outbound-ports", "1, 2").unwrap().capture_flags, ["--exclude-outbound-ports=1,2"]);
    }

    #[test]
    fn slips_of_the_pen() {
        let annotations = ["outrigger.dev/proxy-cpus", "outrigger.dev/proxy-cpu", "other/x"];
        let annotations = annotations.map(|name| (name.to_owned(), String::new())).into();
        assert_eq!(Options::unknown(&annotations), ["outrigger.dev/proxy-cpus"]);
    }
}
