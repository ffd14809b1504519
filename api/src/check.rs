//! What can be said of an object by itself: values that read but cannot hold (the object is left out, its last good version
//! stays), and regular expressions that are none (only their match is left out).

use std::time::Duration;

use crate::field::FieldPath;
use crate::mesh_config;
use crate::object::Object;
use crate::pattern;
use crate::problem::{Problem, Reason};
use crate::smi::HttpRouteGroup;
use crate::traffic_policy::{HashOn, TrafficPolicySpec};
use crate::workload::{Capture, WorkloadSpec};

/// A value that cannot hold, and where it stands.
pub(crate) type Invalid = (FieldPath, String);

/// The first value that makes the whole object unusable.
pub(crate) fn invalid(object: &Object) -> Result<(), Invalid> {
    let metadata = object.metadata();
    name(&metadata.name, FieldPath::root().key("metadata").key("name"))?;
    if object.kind().namespaced() {
        name(&metadata.namespace, FieldPath::root().key("metadata").key("namespace"))?;
    }
    match object {
        Object::MeshConfig(config) if config.metadata.name != mesh_config::NAME => Err((
            FieldPath::root().key("metadata").key("name"),
            format!("there is one MeshConfig, and it is named `{}`, not `{}`", mesh_config::NAME, config.metadata.name),
        )),
        Object::Workload(workload) => workload_spec(&workload.spec),
        Object::TrafficPolicy(policy) => policy_spec(&policy.spec),
        _ => Ok(()),
    }
}

/// Source: RFC 1123 as Kubernetes has it for names. They become parts of SPIFFE ids, host names and cluster names.
fn name(name: &str, field: FieldPath) -> Result<(), Invalid> {
    let known = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
    // Kubernetes' own ClusterRole-like names may hold `:`; no kind read here may.
    let ends = name.starts_with(['-', '.']) || name.ends_with(['-', '.']);
    if name.is_empty() {
        return Err((field, "missing field `name`".to_owned()));
    }
    if name.len() > 253 || ends || !name.bytes().all(known) {
        let shown: String = name.chars().take(80).collect();
        return Err((
            field,
            format!(
                "bad name `{shown}`: use lower-case letters, digits, `-` and `.`, at most 253, with a letter or digit at both ends"
            ),
        ));
    }
    Ok(())
}

fn workload_spec(spec: &WorkloadSpec) -> Result<(), Invalid> {
    if spec.address.is_none() && spec.capture == Capture::Explicit {
        return Err((FieldPath::spec(), "missing field `address`: where peers connect to the workload".to_owned()));
    }
    if let Some(account) = &spec.service_account {
        name(account, FieldPath::spec().key("serviceAccount"))?;
    }
    for (n, port) in spec.ports.iter().enumerate() {
        let field = || FieldPath::spec().key("ports").index(n);
        let earlier = spec.ports.get(..n).unwrap_or_default();
        if earlier.iter().any(|other| other.port == port.port) {
            return Err((field().key("port"), format!("port {} is there twice", port.port)));
        }
        if !port.name.is_empty() && earlier.iter().any(|other| other.name == port.name) {
            return Err((field().key("name"), format!("port name `{}` is there twice", port.name)));
        }
        let address = spec.address.filter(|ip| *ip == port.app_address);
        if spec.capture == Capture::Explicit && address.is_some() && port.app().port() == port.port.get() {
            return Err((
                field(),
                format!(
                    "the process and its sidecar cannot both listen at {}: set `appPort` or `appAddress`",
                    port.app()
                ),
            ));
        }
    }
    Ok(())
}

fn policy_spec(spec: &TrafficPolicySpec) -> Result<(), Invalid> {
    if let Some(balancer) = &spec.load_balancer {
        let field = || FieldPath::spec().key("loadBalancer");
        match (&balancer.hash_on, balancer.policy.hashes()) {
            (None, true) => {
                return Err((field(), "a hashing policy needs `hashOn`: header, cookie, query or sourceIP".to_owned()));
            }
            (Some(HashOn::SourceIp(false)), _) => {
                return Err((field().key("hashOn").key("sourceIP"), "`sourceIP` can only be true".to_owned()));
            }
            _ => {}
        }
    }
    if let Some(backoff) = spec.retry.as_ref().and_then(|retry| retry.backoff) {
        let field = || FieldPath::spec().key("retry").key("backoff");
        if backoff.base.get() < Duration::from_millis(1) {
            return Err((field().key("base"), "`base` must be at least 1ms".to_owned()));
        }
        if backoff.max.is_some_and(|max| max < backoff.base) {
            return Err((field().key("max"), "`max` must not be less than `base`".to_owned()));
        }
    }
    if spec.rate_limit.is_some_and(|limit| limit.per.get() < Duration::from_millis(50)) {
        return Err((FieldPath::spec().key("rateLimit").key("per"), "`per` must be at least 50ms".to_owned()));
    }
    if spec.fault.and_then(|fault| fault.delay).is_some_and(|delay| delay.duration.is_zero()) {
        return Err((
            FieldPath::spec().key("fault").key("delay").key("duration"),
            "`duration` must not be zero".to_owned(),
        ));
    }
    if spec.outlier_detection.is_some_and(|o| o.interval.is_zero() || o.base_ejection_time.is_zero()) {
        return Err((FieldPath::spec().key("outlierDetection"), "the times must not be zero".to_owned()));
    }
    if spec.timeout.and_then(|t| t.connect).is_some_and(crate::GoDuration::is_zero) {
        return Err((FieldPath::spec().key("timeout").key("connect"), "`connect` must not be zero".to_owned()));
    }
    Ok(())
}

/// What is wrong with an object by itself, though it is used all the same.
#[must_use]
pub fn problems(object: &Object) -> Vec<Problem> {
    match object {
        Object::HttpRouteGroup(group) => bad_patterns(group),
        _ => Vec::new(),
    }
}

fn bad_patterns(group: &HttpRouteGroup) -> Vec<Problem> {
    let reference = crate::ObjectRef::new(crate::Kind::HttpRouteGroup, &group.metadata.key());
    let mut problems = Vec::new();
    let mut test = |regex: &str, field: FieldPath| {
        if let Err(error) = pattern::compile(regex) {
            let problem = Problem::new(Reason::BadRegex, reference.clone(), error.to_string()).at(field);
            problems.push(problem.help("until it is mended, its match accepts nothing"));
        }
    };
    for (n, one) in group.spec.matches.iter().enumerate() {
        let field = || FieldPath::spec().key("matches").index(n);
        if let Some(regex) = &one.path_regex {
            test(regex, field().key("pathRegex"));
        }
        for (name, regex) in one.headers.iter() {
            test(regex, field().key("headers").key(name));
        }
    }
    problems.extend(bad_headers(group, &reference));
    problems
}

fn bad_headers(group: &HttpRouteGroup, reference: &crate::ObjectRef) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (n, one) in group.spec.matches.iter().enumerate() {
        for (name, _) in one.headers.iter().filter(|(name, _)| header_name(name).is_none()) {
            let field = FieldPath::spec().key("matches").index(n).key("headers").key(name);
            let message = format!("`{name}` cannot be a header's name: its match accepts nothing");
            problems.push(Problem::new(Reason::InvalidValue, reference.clone(), message).at(field));
        }
    }
    problems
}

/// A header's name as proxies compare it: in lower case, `:authority` for the host. `None` for what is no header's name.
///
/// Source: RFC 9110, section 5.1; Envoy `HeaderMatcher.name`.
#[must_use]
pub fn header_name(name: &str) -> Option<String> {
    let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    let lower = name.to_ascii_lowercase();
    let bare = lower.strip_prefix(':').unwrap_or(&lower);
    if bare.is_empty() || bare.len() > 256 || !bare.bytes().all(token) {
        return None;
    }
    Some(if lower == "host" { ":authority".to_owned() } else { lower })
}
