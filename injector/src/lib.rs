//! Who gets a sidecar, and how a pod looks with one: the same mutation for the webhook and offline.
//!
//! Nothing here does I/O or reads a clock. [`settings`] is what an installation says, [`options`] what a pod's annotations say, [`ports`] which ports they
//! mean,
//! [`decide`] whether a pod gets a sidecar and why, [`migrate`] what other meshes' labels say of that, [`inject`](mod@inject) the mutation, [`undo`] its opposite, [`review`] the webhook's
//! words, [`manifests`] files of workloads, [`missing`] pods that are there without one.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod decide;
pub mod inject;
pub mod manifests;
pub mod migrate;
pub mod missing;
pub mod options;
pub mod ports;
pub mod review;
pub mod settings;
pub mod undo;

pub use decide::Decision;
pub use inject::{Owner, inject};
pub use settings::Settings;

/// The sidecar's container.
pub const SIDECAR: &str = "outrigger-sidecar";
/// The step that redirects a pod's connections.
pub const INIT: &str = "outrigger-init";
/// The annotation that says what was done to a pod.
pub const STATUS: &str = "outrigger.dev/status";
/// The label of namespaces and pods: `enabled` or `disabled`.
pub const LABEL: &str = "outrigger.dev/inject";
/// The port of probes and of the pod's metrics.
pub const AGENT_PORT: u16 = 15020;
