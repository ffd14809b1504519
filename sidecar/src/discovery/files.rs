//! Resources from a file: a DiscoveryResponse as YAML, JSON or protobuf, read again when it is replaced.
//! Source: `ConfigSource.path_config_source`; Envoy reacts to moves, so that no half-written file is read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::files::Changes;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use tracing::warn;
use xds::type_url;

use super::resource::fetched;
use super::{Change, Event, Events};

/// Reads a file into a DiscoveryResponse.
pub type Read = fn(&Path) -> Result<DiscoveryResponse, String>;

/// A file that is watched as long as this lives.
pub struct FileSubscription {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FileSubscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Several events of one replacement are taken as one.
const QUIET: Duration = Duration::from_millis(5);

/// Reads `path` now and after each change of it (`watched_directory`: of anything there).
pub fn start(
    path: PathBuf,
    watched_directory: Option<PathBuf>,
    type_url: &'static str,
    read: Read,
    events: Events,
) -> FileSubscription {
    let mut changes = match watched_directory {
        Some(directory) => Changes::within([directory], QUIET),
        None => Changes::beside([&path], QUIET),
    };
    let task = tokio::spawn(async move {
        let mut last = Vec::new();
        loop {
            load(&path, type_url, read, &events, &mut last).await;
            changes.next().await;
        }
    });
    FileSubscription { task }
}

async fn load(path: &Path, type_url: &'static str, read: Read, events: &Events, last: &mut Vec<u8>) {
    let failed = |why: String| events.send(Event::Failed { type_url: type_url.to_owned(), why });
    match std::fs::read(path) {
        Ok(bytes) if bytes == *last => return,
        Ok(bytes) => *last = bytes,
        Err(error) => return failed(format!("{}: {error}", path.display())),
    }
    let response = match read(path) {
        Ok(response) => response,
        Err(why) => return failed(why),
    };
    let version = response.version_info;
    let full = matches!(type_url, type_url::LISTENER | type_url::CLUSTER);
    let resources: Result<Vec<_>, _> = response.resources.into_iter().map(|any| fetched(any, &version)).collect();
    match resources {
        Err(why) => failed(why),
        Ok(resources) => {
            let change = Change { type_url: type_url.to_owned(), version, full, resources, removed: Vec::new() };
            if let Err(why) = events.judge(change).await {
                warn!(path = %path.display(), "refused: {why}");
            }
        }
    }
}
