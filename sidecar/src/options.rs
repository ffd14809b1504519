//! The command line: Envoy's, so that either binary can stand in the other's place.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Serve.
    Serve,
    /// Check the configuration, then exit.
    Validate,
}

/// A proxy that starts from an Envoy bootstrap.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "sidecar",
    version,
    after_help = "Examples:\n  sidecar -c bootstrap.yaml\n  sidecar -c bootstrap.yaml --mode validate\n  sidecar -c bootstrap.yaml --concurrency 2 --log-level debug"
)]
pub struct Options {
    /// The bootstrap: YAML, JSON, or protobuf (`.pb`).
    #[arg(short = 'c', long)]
    pub config_path: Option<PathBuf>,
    /// A bootstrap as text.
    #[arg(long)]
    pub config_yaml: Option<String>,
    /// Worker threads; one for each core by default.
    #[arg(long)]
    pub concurrency: Option<usize>,
    #[arg(short = 'l', long, default_value = "info")]
    pub log_level: String,
    #[arg(long)]
    pub log_path: Option<PathBuf>,
    #[arg(long, default_value_t = 0)]
    pub base_id: u32,
    #[arg(long, default_value = "")]
    pub service_cluster: String,
    #[arg(long, default_value = "")]
    pub service_node: String,
    /// Seconds that connections may take to end when listeners go.
    #[arg(long, default_value_t = 600)]
    pub drain_time_s: u64,
    #[arg(long, default_value_t = 900)]
    pub parent_shutdown_time_s: u64,
    #[arg(long, default_value = "gradual")]
    pub drain_strategy: String,
    #[arg(long)]
    pub disable_hot_restart: bool,
    #[arg(long, value_enum, default_value_t = Mode::Serve)]
    pub mode: Mode,
    #[arg(long)]
    pub component_log_level: Option<String>,
    #[arg(long, default_value = "v4")]
    pub local_address_ip_version: String,
    #[arg(long, default_value_t = 10_000)]
    pub file_flush_interval_msec: u64,
    #[arg(long)]
    pub allow_unknown_static_fields: bool,
    #[arg(long)]
    pub skip_deprecated_logs: bool,
}
