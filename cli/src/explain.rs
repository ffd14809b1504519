//! `outrigger authz check` and `outrigger describe`: would this be allowed, where would it go, and why.

use std::process::ExitCode;

use anyhow::{Context, bail};
use api::Key;
use pilot::explain::{Call, authorize, destination};
use pilot::mesh::{self, Domains, MeshSnapshot, Service};
use serde_json::{Value, json};

use crate::Output;
use crate::objects::Objects;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Authz {
    /// Would this call be allowed? Exits 1 if not.
    #[command(
        after_help = "Example:\n  outrigger authz check -f ./mesh --from shop/web --to reviews.shop:9080 --path /public/a"
    )]
    Check(Check),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    asked: Asked,
    /// The calling service account; without it, a caller that has no certificate.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    from: Option<String>,
    /// The called Service: SVC, SVC.NS or longer, with its port unless it is plain.
    #[arg(long, value_name = "HOST[:PORT]")]
    to: String,
    /// The request's method.
    #[arg(long, default_value = "GET")]
    method: String,
    /// The request's path.
    #[arg(long, default_value = "/")]
    path: String,
    /// A header of the request; may be given more than once.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  outrigger describe reviews -n shop -f ./mesh")]
pub(crate) struct Describe {
    #[command(flatten)]
    asked: Asked,
    /// The Service.
    service: String,
}

/// What is asked of, and how the answer is printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    objects: Objects,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Asked {
    fn mesh(&self) -> anyhow::Result<MeshSnapshot> {
        let observed = self.objects.observed()?;
        Ok(mesh::build(&observed.objects, &Domains::default()).0)
    }

    /// The namespace of names that tell none.
    fn namespace(&self) -> &str {
        self.objects.namespace.as_deref().unwrap_or("default")
    }

    fn print(&self, value: &Value, text: &str) -> anyhow::Result<()> {
        match self.output {
            Output::Table => print!("{text}"),
            Output::Json => println!("{}", serde_json::to_string_pretty(value)?),
            Output::Yaml => print!("{}", serde_saphyr::to_string(value)?),
        }
        Ok(())
    }
}

pub(crate) fn check(Authz::Check(flags): &Authz) -> anyhow::Result<ExitCode> {
    let mesh = flags.asked.mesh()?;
    let from = flags.from.as_ref().map(|from| account(from, flags.asked.namespace()));
    let namespace = from.as_ref().map_or(flags.asked.namespace().to_owned(), |from| from.namespace.clone());
    let (host, port) = match flags.to.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>().with_context(|| format!("port of `{}`", flags.to))?)),
        None => (flags.to.as_str(), None),
    };
    let Some(service) = mesh.service_named(host, &namespace) else {
        bail!("no service `{host}` is known in namespace `{namespace}`")
    };
    let port = port.or_else(|| service.default_port().map(|port| port.port));
    let port =
        port.with_context(|| format!("service `{}` has several ports: name one, as {host}:PORT", service.key))?;
    let header = |text: &String| {
        let (name, value) = text.split_once('=').with_context(|| format!("--header `{text}` is not NAME=VALUE"))?;
        Ok((name.to_ascii_lowercase(), value.to_owned()))
    };
    let call = Call {
        from,
        to: service.key.clone(),
        port,
        method: flags.method.clone(),
        path: flags.path.split('?').next().unwrap_or_default().to_owned(),
        headers: flags.headers.iter().map(header).collect::<anyhow::Result<_>>()?,
    };
    // The backends that the call goes to are the ones that are asked.
    let goes = destination(&mesh, &call);
    let mut verdicts = Vec::new();
    for (to, port, _) in &goes.shares {
        verdicts.extend(authorize(&mesh, &Call { to: to.clone(), port: *port, ..call.clone() }));
    }
    let allowed = verdicts.iter().all(|(_, verdict)| verdict.allowed);
    let mut text = String::new();
    for (workload, verdict) in &verdicts {
        let word = if verdict.allowed { "allowed" } else { "denied" };
        text.push_str(&format!("{word}  at {workload}: {}\n", verdict.reason));
    }
    if verdicts.is_empty() {
        text.push_str(&format!("no workload of the mesh serves {}:{port}: nothing is denied there\n", call.to));
    }
    let list: Vec<Value> =
        verdicts.iter().map(|(workload, verdict)| json!({"workload": workload, "verdict": verdict})).collect();
    flags.asked.print(&json!({"allowed": allowed, "workloads": list, "destination": goes}), &text)?;
    Ok(ExitCode::from(u8::from(!allowed)))
}

/// `NAMESPACE/NAME`, or a name alone.
fn account(text: &str, namespace: &str) -> Key {
    let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
    Key::new(namespace, name)
}

pub(crate) fn describe(flags: &Describe) -> anyhow::Result<ExitCode> {
    let mesh = flags.asked.mesh()?;
    let namespace = flags.asked.namespace();
    let Some(service) = mesh.service_named(&flags.service, namespace) else {
        bail!("no service `{}` is known in namespace `{namespace}`", flags.service)
    };
    let (value, text) = described(&mesh, service);
    flags.asked.print(&value, &text)?;
    Ok(ExitCode::SUCCESS)
}

fn described(mesh: &MeshSnapshot, service: &Service) -> (Value, String) {
    let policy = service.policy.source.as_ref().map_or_else(|| "none, defaults hold".to_owned(), ToString::to_string);
    let mut text = format!("{}\n  policy: {policy}\n", service.fqdn);
    let mut ports = Vec::new();
    for port in service.ports.values() {
        let key = (service.key.clone(), port.port);
        let call = Call {
            to: service.key.clone(),
            port: port.port,
            method: "GET".to_owned(),
            path: "/".to_owned(),
            ..Call::default()
        };
        let goes = destination(mesh, &call);
        text.push_str(&format!("  port {} ({:?})\n", port.port, port.protocol));
        if let Some(routing) = mesh.routings.get(&key).and_then(|routings| routings.first()) {
            text.push_str(&format!("    routed by {}\n", routing.source));
        }
        for (to, number, share) in &goes.shares {
            text.push_str(&format!("    {share:.1} % to {to}:{number}\n"));
        }
        let mut endpoints = Vec::new();
        for endpoint in mesh.endpoints.get(&key).into_iter().flat_map(|endpoints| endpoints.iter()) {
            let workload = endpoint.workload.as_ref().and_then(|key| mesh.workloads.get(key));
            let who = workload.map_or_else(
                || "outside the mesh, in plaintext".to_owned(),
                |w| format!("{} as {}, by mTLS", w.key, mesh.settings.identity(&w.account)),
            );
            text.push_str(&format!("    endpoint {}:{}  {who}\n", endpoint.address, endpoint.port));
            endpoints.push(json!({"address": endpoint.address, "port": endpoint.port, "workload": endpoint.workload}));
            let grants = workload.map(|w| mesh.grants_of(&w.account)).unwrap_or_default();
            for grant in grants {
                text.push_str(&format!("      allowed by {}\n", grant.source));
            }
        }
        ports.push(json!({"port": port.port, "protocol": format!("{:?}", port.protocol), "destination": goes, "endpoints": endpoints}));
    }
    (json!({"service": service.key, "name": service.fqdn, "policy": policy, "ports": ports}), text)
}
