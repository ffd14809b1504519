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
    long_version = concat!("version: outrigger/", env!("CARGO_PKG_VERSION"), "/Clean/RELEASE/rustls"),
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
    /// The zone of the node's locality.
    #[arg(long, default_value = "")]
    pub service_zone: String,
    // What follows is taken so that Envoy's start scripts work, and means nothing here: there is no hot restart, no
    // fine-grain log, and unknown fields of xDS are always passed over.
    #[arg(long, hide = true)]
    pub use_dynamic_base_id: bool,
    #[arg(long, hide = true)]
    pub base_id_path: Option<PathBuf>,
    #[arg(long, default_value_t = 0, hide = true)]
    pub restart_epoch: u32,
    #[arg(long, hide = true)]
    pub skip_hot_restart_on_no_parent: bool,
    #[arg(long, hide = true)]
    pub skip_hot_restart_parent_stats: bool,
    #[arg(long, hide = true)]
    pub hot_restart_version: bool,
    #[arg(long, hide = true)]
    pub log_format: Option<String>,
    #[arg(long, hide = true)]
    pub log_format_escaped: bool,
    #[arg(long, hide = true)]
    pub enable_fine_grain_logging: bool,
    #[arg(long, hide = true)]
    pub enable_core_dump: bool,
    #[arg(long, hide = true)]
    pub enable_mutex_tracing: bool,
    #[arg(long, hide = true)]
    pub cpuset_threads: bool,
    #[arg(long, hide = true)]
    pub disable_extensions: Option<String>,
    #[arg(long, hide = true)]
    pub bootstrap_version: Option<u32>,
    #[arg(long, hide = true)]
    pub reject_unknown_dynamic_fields: bool,
    #[arg(long, hide = true)]
    pub ignore_unknown_dynamic_fields: bool,
    #[arg(long, hide = true)]
    pub socket_path: Option<String>,
    #[arg(long, hide = true)]
    pub socket_mode: Option<String>,
    #[arg(long, hide = true)]
    pub stats_tag: Vec<String>,
    /// Where the admin's address is written once it listens.
    #[arg(long)]
    pub admin_address_path: Option<PathBuf>,
}
