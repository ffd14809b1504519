//! Logs to stderr, as text or JSON.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The flags of every program.
#[derive(Clone, Debug, clap::Args)]
pub struct Logging {
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, or directives such as `info,pilot::ads=debug`.
    #[arg(long, default_value = "info")]
    pub log_level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The API server's client warns of each answer that is no JSON, and that is how the server tells of kinds that are not installed.
const QUIET: &str = "kube_client::client=error";

impl Logging {
    fn directives(&self) -> String {
        if self.log_level.contains("kube_client") {
            self.log_level.clone()
        } else {
            format!("{QUIET},{}", self.log_level)
        }
    }

    /// Starts logging; once in a process.
    ///
    /// # Errors
    /// When the level is none, or logging has been started.
    pub fn start(&self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(self.directives())
            .map_err(|error| anyhow::anyhow!("bad --log-level `{}`: {error}", self.log_level))?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let started = match self.log_format {
            LogFormat::Text => builder.with_ansi(false).try_init(),
            LogFormat::Json => builder.json().try_init(),
        };
        started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_the_client_hears_it() {
        let directives =
            |level: &str| Logging { log_format: LogFormat::Text, log_level: level.to_owned() }.directives();
        assert_eq!(directives("info"), "kube_client::client=error,info");
        assert_eq!(directives("info,kube_client=debug"), "info,kube_client=debug");
    }
}
