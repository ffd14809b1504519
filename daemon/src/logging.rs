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

impl Logging {
    /// Starts logging; once in a process.
    ///
    /// # Errors
    /// When the level is none, or logging has been started.
    pub fn start(&self) -> anyhow::Result<()> {
        let filter = EnvFilter::try_new(&self.log_level)
            .map_err(|error| anyhow::anyhow!("bad --log-level `{}`: {error}", self.log_level))?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let started = match self.log_format {
            LogFormat::Text => builder.with_ansi(false).try_init(),
            LogFormat::Json => builder.json().try_init(),
        };
        started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
    }
}
