//! Files that change while a process runs: that one has changed is told, what is in it is not read here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::warn;

/// Changes in some folders, told as long as this lives.
#[derive(Debug)]
pub struct Changes {
    told: mpsc::UnboundedReceiver<()>,
    quiet: Duration,
    _watchers: Vec<RecommendedWatcher>,
}

impl Changes {
    /// Of whatever is in the folders of these files, so that a file that is replaced, or is a link to one that is, is seen; what
    /// happens within `quiet` is told once. A folder that cannot be watched is warned of.
    pub fn beside<P: AsRef<Path>>(files: impl IntoIterator<Item = P>, quiet: Duration) -> Self {
        let folders: BTreeSet<PathBuf> = files.into_iter().map(|file| folder(file.as_ref())).collect();
        Self::within(folders, quiet)
    }

    /// Of whatever is in these folders.
    pub fn within(folders: impl IntoIterator<Item = PathBuf>, quiet: Duration) -> Self {
        let (changed, told) = mpsc::unbounded_channel();
        let watchers = folders.into_iter().filter_map(|folder| watch(&folder, changed.clone())).collect();
        Self { told, quiet, _watchers: watchers }
    }

    /// Until something has changed; for ever, if nothing can be watched.
    pub async fn next(&mut self) {
        if self.told.recv().await.is_none() {
            return std::future::pending().await;
        }
        tokio::time::sleep(self.quiet).await;
        while self.told.try_recv().is_ok() {}
    }
}

fn folder(file: &Path) -> PathBuf {
    let parent = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new(".")).to_owned()
}

fn watch(folder: &Path, changed: mpsc::UnboundedSender<()>) -> Option<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = changed.send(());
        }
    };
    let warn = |error: notify::Error| warn!("changes in {} are not seen: {error}", folder.display());
    let mut watcher = notify::recommended_watcher(handler).inspect_err(|error| warn!("{error}")).ok()?;
    watcher.watch(folder, RecursiveMode::NonRecursive).map_err(warn).ok()?;
    Some(watcher)
}
