//! Pages about the process: what it is, what it listens on, its certificates, runtime values and log levels.

use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use prost::{Message, Name};
use xds::Schema;
use xds::json::{Json, Secrets, print_encoded};

use super::{Admin, PAGES, Page, json, page, value};
use crate::assemble::view::View;
use crate::net::Address;

pub fn help() -> String {
    let mut text = String::from("admin commands are:\n");
    for (path, changes, what) in PAGES {
        let note = if changes { " (POST)" } else { "" };
        text.push_str(&format!("  {path}{note}: {what}\n"));
    }
    text
}

pub fn home() -> String {
    let rows = PAGES.iter().map(|(path, changes, what)| {
        let name = path.trim_start_matches('/');
        match changes {
            true => format!(
                "<tr><td><form action='{name}' method='post'><button>{name}</button></form></td><td>{what}</td></tr>"
            ),
            false => format!("<tr><td><a href='{name}'>{name}</a></td><td>{what}</td></tr>"),
        }
    });
    format!(
        "<!DOCTYPE html><html><head><title>Envoy Admin</title></head><body><table>{}</table></body></html>\n",
        rows.collect::<String>()
    )
}

fn text(value: impl Into<String>) -> Json {
    Json::String(value.into())
}

fn map(fields: impl IntoIterator<Item = (&'static str, Json)>) -> Json {
    Json::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// An address as the admin's JSON has it.
pub fn address(address: &Address) -> Json {
    match address {
        Address::Ip(address) => map([(
            "socket_address",
            map([("address", text(address.ip().to_string())), ("port_value", Json::UInt(address.port().into()))]),
        )]),
        Address::Pipe(path) => map([("pipe", map([("path", text(path.display().to_string()))]))]),
    }
}

pub fn listeners(view: &View, query: Option<&str>) -> Page {
    let mut all: Vec<_> = view.serving.iter().collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    if value(query, "format") != Some("json") {
        let lines = all.iter().flat_map(|l| l.addresses().map(|at| format!("{}::{at}\n", l.name)));
        return page(StatusCode::OK, lines.collect::<String>());
    }
    let statuses = all.iter().map(|listener| {
        let mut fields =
            vec![("name", text(&listener.name)), ("local_address", address(&Address::Ip(listener.address)))];
        if !listener.additional.is_empty() {
            let additional = listener.additional.iter().map(|at| address(&Address::Ip(*at))).collect();
            fields.push(("additional_local_addresses", Json::List(additional)));
        }
        map(fields)
    });
    json(map([("listener_statuses", Json::List(statuses.collect()))]).pretty())
}

pub fn server_info(admin: &Admin) -> Page {
    let schema = Schema::shared();
    let node =
        print_encoded(&schema, &crate::bootstrap::Node::full_name(), &admin.node.encode_to_vec(), Secrets::Redact);
    let options = &admin.options;
    let uptime = format!("{}s", admin.started.elapsed().as_secs());
    let config_path = options.config_path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let flags = map([
        ("base_id", text(options.base_id.to_string())),
        ("concurrency", Json::UInt(u32::try_from(admin.workers).unwrap_or(u32::MAX))),
        ("config_path", text(config_path)),
        ("config_yaml", text(options.config_yaml.clone().unwrap_or_default())),
        ("local_address_ip_version", text(&options.local_address_ip_version)),
        ("log_level", text(&options.log_level)),
        ("component_log_level", text(options.component_log_level.clone().unwrap_or_default())),
        ("service_cluster", text(&options.service_cluster)),
        ("service_node", text(&options.service_node)),
        ("service_zone", text(&options.service_zone)),
        ("drain_strategy", text(if options.drain_strategy == "immediate" { "Immediate" } else { "Gradual" })),
        ("drain_time", text(format!("{}s", options.drain_time_s))),
        ("parent_shutdown_time", text(format!("{}s", options.parent_shutdown_time_s))),
        ("mode", text("Serve")),
        ("disable_hot_restart", Json::Bool(options.disable_hot_restart)),
    ]);
    let version = format!("outrigger/{}/Clean/RELEASE/rustls", env!("CARGO_PKG_VERSION"));
    json(
        map([
            ("version", text(version)),
            ("state", text(admin.state())),
            ("hot_restart_version", text("disabled")),
            ("command_line_options", flags),
            ("node", node.unwrap_or(Json::Null)),
            ("uptime_current_epoch", text(uptime.clone())),
            ("uptime_all_epochs", text(uptime)),
        ])
        .pretty(),
    )
}

/// A moment as protobuf's JSON has it.
pub fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    unix(since.as_secs() as i64, since.subsec_millis())
}

fn unix(seconds: i64, millis: u32) -> String {
    let at = jiff::Timestamp::new(seconds, millis as i32 * 1_000_000).unwrap_or_default();
    if millis == 0 {
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
    }
}

/// The certificates that are shown to peers.
pub fn certs(view: &View) -> Page {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let mut seen = Vec::new();
    let mut all = Vec::new();
    for identity in view.certificates.iter().filter_map(|slot| slot.certificate()) {
        let facts = &identity.facts;
        if seen.contains(&facts.sha256) {
            continue;
        }
        seen.push(facts.sha256.clone());
        let named = |kind: &'static str, names: &[String]| -> Vec<Json> {
            names.iter().map(|name| map([(kind, text(name))])).collect()
        };
        let mut names = named("uri", &facts.uri_sans);
        names.extend(named("dns", &facts.dns_sans));
        names.extend(named("ip_address", &facts.ip_sans));
        let days = (facts.not_after - now).div_euclid(86_400).max(0);
        let chain = map([
            ("path", text("<inline>")),
            ("serial_number", text(&facts.serial)),
            ("subject_alt_names", Json::List(names)),
            ("days_until_expiration", text(days.to_string())),
            ("valid_from", text(unix(facts.not_before, 0))),
            ("expiration_time", text(unix(facts.not_after, 0))),
        ]);
        all.push(map([("ca_cert", Json::List(Vec::new())), ("cert_chain", Json::List(vec![chain]))]));
    }
    json(map([("certificates", Json::List(all))]).pretty())
}

/// What the process holds, in bytes, as the system counts it.
pub fn memory() -> Page {
    let pages = |at: usize| -> u64 {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm.split_whitespace().nth(at).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 4096
    };
    let bytes = |n: u64| text(n.to_string());
    json(
        map([
            ("allocated", bytes(pages(1))),
            ("heap_size", bytes(pages(0))),
            ("pageheap_unmapped", bytes(0)),
            ("pageheap_free", bytes(0)),
            ("total_thread_cache", bytes(0)),
            ("total_physical_bytes", bytes(pages(1))),
        ])
        .pretty(),
    )
}

pub fn runtime() -> Page {
    let (layers, entries) = crate::runtime::layers();
    let entries = entries.into_iter().map(|(key, (values, last))| {
        let values = values.into_iter().map(text).collect();
        (key, map([("final_value", text(last)), ("layer_values", Json::List(values))]))
    });
    json(
        map([
            ("layers", Json::List(layers.into_iter().map(text).collect())),
            ("entries", Json::Map(entries.collect())),
        ])
        .pretty(),
    )
}

pub fn runtime_modify(query: Option<&str>) -> Page {
    let Some(query) = query else {
        return page(
            StatusCode::BAD_REQUEST,
            "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\nor send the parameters as form values\nuse an empty value to remove a previously added override",
        );
    };
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    if crate::runtime::modify(pairs) {
        page(StatusCode::OK, "OK\n")
    } else {
        page(StatusCode::SERVICE_UNAVAILABLE, "No admin layer specified")
    }
}

pub fn logging(query: Option<&str>) -> Page {
    let asked = query.and_then(|query| query.split('&').next()?.split_once('='));
    let done = match asked {
        None => true,
        Some(("level", level)) => crate::logging::set(None, level),
        Some((logger, level)) => crate::logging::set(Some(logger), level),
    };
    if !done {
        return page(StatusCode::BAD_REQUEST, "error: unknown logger name or level\n");
    }
    let lines = crate::logging::levels().into_iter().map(|(name, level)| format!("  {name}: {level}\n"));
    page(StatusCode::OK, format!("active loggers:\n{}", lines.collect::<String>()))
}

/// Ends the process as SIGTERM does.
pub fn quit() {
    if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM) {
        tracing::warn!("cannot stop: {error}");
    }
}
