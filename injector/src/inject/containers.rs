//! The containers and volumes that are put into a pod.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Owner;
use crate::options::{Capture, Options};
use crate::{AGENT_PORT, INIT, SIDECAR, Settings};

/// The user and group that the sidecar runs as; what the rules of capture leave alone.
const PROXY: u32 = 1337;
/// Where the pod's readiness is asked.
const READY_PORT: u16 = 15021;

/// What decides how the containers look.
pub(super) struct Facts<'a> {
    pub(super) settings: &'a Settings,
    pub(super) options: &'a Options,
    pub(super) owner: &'a Owner,
    pub(super) native: bool,
    pub(super) probes: &'a BTreeMap<String, Value>,
    pub(super) metrics: Option<&'a str>,
}

pub(super) fn sidecar(facts: &Facts<'_>) -> Value {
    let (settings, options) = (facts.settings, facts.options);
    let ready = json!({"httpGet": {"path": "/healthz/ready", "port": READY_PORT}, "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 4});
    let mut container = json!({
        "name": SIDECAR,
        "image": options.image.clone().unwrap_or_else(|| settings.image.reference()),
        "imagePullPolicy": settings.image.pull_policy,
        "command": ["/usr/local/bin/outrigger", "agent"],
        "env": environment(facts),
        "ports": [
            // Names that no application has: a Service's named port is that of the first container that has it.
            {"name": "http-outrigger", "containerPort": AGENT_PORT, "protocol": "TCP"},
            {"name": "http-sidecar", "containerPort": 15090, "protocol": "TCP"},
        ],
        "readinessProbe": ready,
        "resources": resources(options),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": PROXY,
            "runAsNonRoot": true,
            "runAsUser": PROXY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": mounts(settings),
        // The pod is on its way out: no new work, but what is under way goes on.
        "lifecycle": {"preStop": {"httpGet": {"path": "/drain", "port": AGENT_PORT}}},
    });
    if facts.native {
        container["restartPolicy"] = json!("Always");
        // Containers after it begin when it is ready, not before.
        container["startupProbe"] = json!({"httpGet": {"path": "/healthz/ready", "port": READY_PORT}, "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 600});
    } else if options.hold_application {
        container["lifecycle"]["postStart"] =
            json!({"exec": {"command": ["/usr/local/bin/outrigger", "agent", "wait"]}});
    }
    container
}

fn mounts(settings: &Settings) -> Vec<Value> {
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    let mut mounts = vec![
        mount("outrigger-token", "/var/run/secrets/outrigger/token"),
        mount("outrigger-ca-root", "/var/run/secrets/outrigger/ca"),
        mount("outrigger-pod", "/etc/outrigger/pod"),
    ];
    mounts.extend(
        settings.ca.external().map(|_| mount("outrigger-external-ca", "/var/run/secrets/outrigger/external-ca")),
    );
    mounts
}

fn environment(facts: &Facts<'_>) -> Value {
    let of_pod = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let set = |name: &str, value: &str| json!({"name": name, "value": value});
    let mut env = vec![
        of_pod("POD_NAME", "metadata.name"),
        of_pod("POD_NAMESPACE", "metadata.namespace"),
        of_pod("POD_IP", "status.podIP"),
        of_pod("POD_IPS", "status.podIPs"),
        of_pod("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        set("OUTRIGGER_PILOT", &facts.settings.pilot),
        set("OUTRIGGER_CLUSTER_DOMAIN", &facts.settings.cluster_domain),
        set("OUTRIGGER_WORKLOAD", &facts.owner.0),
        set("OUTRIGGER_NATIVE", if facts.native { "true" } else { "false" }),
    ];
    if let Some(address) = facts.settings.ca.external() {
        env.extend([set("OUTRIGGER_CA_ADDRESS", address), set("OUTRIGGER_TRUST_DOMAIN", &facts.settings.trust_domain)]);
    }
    if facts.options.capture == Capture::Ebpf {
        env.push(set("OUTRIGGER_CAPTURE", "ebpf"));
    }
    if !facts.probes.is_empty() {
        // Texts, numbers and maps: they can always be written.
        env.push(set("OUTRIGGER_PROBES", &serde_json::to_string(facts.probes).unwrap_or_default()));
    }
    env.extend(facts.metrics.map(|metrics| set("OUTRIGGER_APP_METRICS", metrics)));
    let options = facts.options;
    env.extend(options.log_level.as_ref().map(|level| set("OUTRIGGER_LOG_LEVEL", level)));
    env.extend(options.trace_sampling.as_ref().map(|percent| set("OUTRIGGER_TRACE_SAMPLING", percent)));
    env.extend(options.drain_seconds.map(|seconds| set("OUTRIGGER_DRAIN_SECONDS", &seconds.to_string())));
    Value::Array(env)
}

/// A limit without a request is both.
fn resources(options: &Options) -> Value {
    let mut resources = json!({});
    for (name, request, limit, usual) in
        [("cpu", &options.cpu, &options.cpu_limit, "20m"), ("memory", &options.memory, &options.memory_limit, "40Mi")]
    {
        if let Some(limit) = limit {
            resources["limits"][name] = json!(limit);
        }
        match (request, limit) {
            (Some(request), _) => resources["requests"][name] = json!(request),
            (None, Some(limit)) => resources["requests"][name] = json!(limit),
            (None, None) => resources["requests"][name] = json!(usual),
        }
    }
    resources
}

pub(super) fn init(facts: &Facts<'_>) -> Value {
    let settings = facts.settings;
    let mut command = vec!["/usr/local/bin/outrigger".to_owned(), "capture".to_owned(), "apply".to_owned()];
    command.extend(facts.options.capture_flags.iter().cloned());
    json!({
        "name": INIT,
        "image": settings.init_image.reference(),
        "imagePullPolicy": settings.init_image.pull_policy,
        "command": command,
        "resources": {"requests": {"cpu": "10m", "memory": "10Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

pub(super) fn volumes(settings: &Settings) -> Vec<Value> {
    let token = |audience: &str| json!({"serviceAccountToken": {"audience": audience, "expirationSeconds": 3600, "path": "token"}});
    let labels = |path: &str| json!({"path": path, "fieldRef": {"fieldPath": format!("metadata.{path}")}});
    let mut volumes = vec![
        json!({"name": "outrigger-token", "projected": {"sources": [token("outrigger-ca")]}}),
        json!({"name": "outrigger-ca-root", "configMap": {"name": "outrigger-ca-root"}}),
        json!({"name": "outrigger-pod", "downwardAPI": {"items": [labels("labels"), labels("annotations")]}}),
    ];
    if let (Some(_), Some(roots)) = (settings.ca.external(), settings.ca.roots()) {
        let roots = json!({"configMap": {"name": roots, "items": [{"key": "root-cert.pem", "path": "root-cert.pem"}]}});
        let sources = [token(&settings.ca.audience), roots];
        volumes.push(json!({"name": "outrigger-external-ca", "projected": {"sources": sources}}));
    }
    volumes
}
