//! What the integration tests share: the programs of the workspace as processes, and network namespaces of a test's own.
#![allow(clippy::unwrap_used)]

pub mod cluster;
pub mod local;
pub mod netns;
pub mod process;
