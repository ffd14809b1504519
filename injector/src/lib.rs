//! Who gets a sidecar, and how a pod looks with one: the same mutation for the webhook and offline.
//!
//! Nothing here does I/O or reads a clock. [`settings`] is what an installation says, [`options`] what a pod's annotations say,
//! [`ports`] which ports they mean, [`decide`] whether a pod gets a sidecar and why, by the [`marks`] of pod and namespace, [`migrate`]
//! what other meshes' labels say of that, [`inject`](mod@inject) the mutation, [`undo`] its opposite, [`review`] the webhook's words,
//! [`manifests`] files of workloads, [`missing`] pods that are there without a sidecar.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod decide;
pub mod inject;
pub mod manifests;
pub mod marks;
pub mod migrate;
pub mod missing;
pub mod options;
pub mod ports;
pub mod review;
pub mod settings;
pub mod undo;
pub mod webhook;

pub use decide::Decision;
pub use inject::{Owner, inject};
pub use marks::Marks;
pub use settings::Settings;

/// Every annotation of ours begins with it.
pub const PREFIX: &str = "outrigger.dev/";
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
