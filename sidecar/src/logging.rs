//! The process's own log, to stderr, with levels that can be changed while it runs. Envoy's loggers stand for parts of
//! this program.

use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Envoy's name of a logger, and whose lines it is.
const LOGGERS: [(&str, &str); 19] = [
    ("admin", "sidecar::admin"),
    ("client", "sidecar::upstream::endpoint"),
    ("config", "sidecar::discovery"),
    ("connection", "sidecar::upstream::connect"),
    ("dns", "sidecar::upstream::resolve"),
    ("filter", "sidecar::tcp"),
    ("health_checker", "sidecar::cluster::health_check"),
    ("http", "sidecar::http"),
    ("http2", "h2"),
    ("init", "sidecar::bootstrap"),
    ("main", "sidecar"),
    ("pool", "sidecar::upstream::pool"),
    ("rbac", "sidecar::rbac"),
    ("router", "sidecar::http::router"),
    ("runtime", "sidecar::runtime"),
    ("secret", "sidecar::tls::secrets"),
    ("tracing", "sidecar::observe::trace"),
    ("udp", "sidecar::net"),
    ("upstream", "sidecar::cluster"),
];

const LEVELS: [(&str, &str); 7] = [
    ("trace", "trace"),
    ("debug", "debug"),
    ("info", "info"),
    ("warning", "warn"),
    ("error", "error"),
    ("critical", "error"),
    ("off", "off"),
];

struct Levels {
    handle: reload::Handle<EnvFilter, Registry>,
    set: Mutex<Vec<(&'static str, &'static str)>>,
}

static LEVELS_NOW: OnceLock<Levels> = OnceLock::new();

/// Starts logging at one of Envoy's levels.
///
/// # Errors
/// The level is none.
pub fn start(level: &str) -> Result<(), String> {
    let names = || LEVELS.map(|(name, _)| name).join(", ");
    let level = known(level).ok_or_else(|| format!("unknown log level '{level}': it is one of {}", names()))?;
    let (filter, handle) = reload::Layer::new(EnvFilter::new(directives(&[("main", level)])));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(ansi);
    let set = Mutex::new(LOGGERS.map(|(name, _)| (name, level)).into());
    tracing_subscriber::registry().with(filter).with(lines).init();
    // Logging is started once in a process.
    let _ = LEVELS_NOW.set(Levels { handle, set });
    Ok(())
}

fn known(level: &str) -> Option<&'static str> {
    let level = if level == "warn" { "warning" } else { level };
    LEVELS.iter().find(|(name, _)| *name == level).map(|(name, _)| *name)
}

fn directives(set: &[(&str, &str)]) -> String {
    let lines = set.iter().filter_map(|(name, level)| {
        let (_, target) = LOGGERS.iter().find(|(logger, _)| logger == name)?;
        let (_, own) = LEVELS.iter().find(|(envoys, _)| envoys == level)?;
        Some(format!("{target}={own}"))
    });
    lines.collect::<Vec<_>>().join(",")
}

/// All loggers with their levels.
pub fn levels() -> Vec<(&'static str, &'static str)> {
    LEVELS_NOW.get().map_or(Vec::new(), |now| now.set.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Sets one logger's level, or everyone's. False if there is no such logger or level.
pub fn set(logger: Option<&str>, level: &str) -> bool {
    let (Some(level), Some(now)) = (known(level), LEVELS_NOW.get()) else { return false };
    let mut set = now.set.lock().unwrap_or_else(PoisonError::into_inner);
    let chosen: Vec<_> = set.iter_mut().filter(|(name, _)| logger.is_none_or(|wanted| wanted == *name)).collect();
    if chosen.is_empty() {
        return false;
    }
    chosen.into_iter().for_each(|entry| entry.1 = level);
    now.handle.reload(EnvFilter::new(directives(&set))).is_ok()
}
