//! Manifests in folders, watched: every `*.yaml`, `*.yml` and `*.json` of a folder (not of folders below it, as `kubectl
//! apply -f DIR` reads them), or single files.
//!
//! Notifications only say that something happened; what happened is found by looking, so that atomic renames, the swap of
//! a `..data` link and missed events all end alike.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

use super::folder::Folder;
use super::{Observed, Watch};

/// A change is taken once nothing happened for this long …
const QUIET: Duration = Duration::from_millis(20);
/// … or once it waited for this long.
const PATIENCE: Duration = Duration::from_millis(150);
/// How often to look without being told, where a change can go untold (links to elsewhere, no notifications).
const POLL: Duration = Duration::from_millis(500);
/// How often to look without being told, everywhere else.
const SLOW_POLL: Duration = Duration::from_secs(10);
/// The largest manifest that is read, in bytes.
const MAX_SIZE: u64 = 16 << 20;

/// Why manifests cannot be watched at all.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A path that was named does not exist or cannot be read.
    #[error("manifests at {path}: {error}", path = path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// No thread could be started.
    #[error("no thread to watch manifests: {0}")]
    Thread(std::io::Error),
}

/// Reads all manifests once.
///
/// # Errors
/// When a path does not exist or a folder cannot be listed. What is wrong within files is in the result.
pub fn read_once(paths: &[PathBuf]) -> Result<Observed, FilesError> {
    let mut files = Files::new(paths);
    files.look()?;
    Ok(files.folder.observed())
}

/// Reads all manifests and goes on watching them until the receiver and all its clones are dropped.
///
/// # Errors
/// As [`read_once`]. Later, a folder that cannot be listed keeps what was read of it.
pub fn watch(paths: &[PathBuf]) -> Result<Watch, FilesError> {
    let mut files = Files::new(paths);
    let (told, events) = mpsc::channel();
    // Watched before it is read, so that no change falls between.
    let watcher = watcher(paths, told.clone());
    files.look()?;
    let (sender, receiver) = watch::channel(Arc::new(files.folder.observed()));
    let follow = Follow { files, sender, events, _told: told, watcher };
    std::thread::Builder::new().name("manifests".to_owned()).spawn(move || follow.run()).map_err(FilesError::Thread)?;
    Ok(receiver)
}

/// `None` where there are no notifications to be had; then the folders are polled.
fn watcher(paths: &[PathBuf], told: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let idle = matches!(&event, Ok(event) if event.kind.is_access() && !is_close_write(event.kind));
        if !idle {
            let _ = told.send(());
        }
    })
    .inspect_err(|error| tracing::warn!(%error, "no file notifications, manifests are polled"))
    .ok()?;
    for path in paths {
        let folder = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(path) };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::warn!(%error, folder = %folder.display(), "no file notifications, manifests are polled");
            return None;
        }
    }
    Some(watcher)
}

fn is_close_write(kind: notify::EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode, EventKind};
    matches!(kind, EventKind::Access(AccessKind::Close(AccessMode::Write)))
}

/// The watching thread.
struct Follow {
    files: Files,
    sender: watch::Sender<Arc<Observed>>,
    events: mpsc::Receiver<()>,
    /// Keeps `events` open when there is no watcher.
    _told: mpsc::Sender<()>,
    watcher: Option<RecommendedWatcher>,
}

impl Follow {
    fn run(mut self) {
        while !self.sender.is_closed() {
            self.wait();
            match self.files.look() {
                Ok(true) => drop(self.sender.send(Arc::new(self.files.folder.observed()))),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "manifests kept as they were"),
            }
        }
    }

    /// Until something happened and has come to rest, or it is time to look anyway.
    fn wait(&mut self) {
        let untold = self.watcher.is_none() || self.files.linked;
        // Short, so that the end of the receiver is noticed.
        let deadline = Instant::now() + if untold { POLL } else { SLOW_POLL };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left.min(POLL)) {
                Ok(()) => break,
                Err(_) if left.is_zero() || self.sender.is_closed() => return,
                Err(_) => {}
            }
        }
        let patience = Instant::now() + PATIENCE;
        while Instant::now() < patience && self.events.recv_timeout(QUIET).is_ok() {}
    }
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The paths that were named and what was last seen of them.
struct Files {
    paths: Vec<PathBuf>,
    seen: BTreeMap<PathBuf, Fingerprint>,
    /// Whether some file is a link, whose target may change untold.
    linked: bool,
    folder: Folder,
}

impl Files {
    fn new(paths: &[PathBuf]) -> Self {
        Self { paths: paths.to_vec(), seen: BTreeMap::new(), linked: false, folder: Folder::default() }
    }

    /// Reads what has changed; whether anything had.
    fn look(&mut self) -> Result<bool, FilesError> {
        let mut found = BTreeMap::new();
        let mut linked = false;
        for path in &self.paths {
            for file in list(path).map_err(|error| FilesError::Path { path: path.clone(), error })? {
                linked |= file.symlink_metadata().is_ok_and(|m| m.is_symlink());
                // A file that has gone since it was listed is as one that never was.
                if let Some(print) = fingerprint(&file) {
                    found.insert(file, print);
                }
            }
        }
        self.linked = linked;
        let gone: Vec<PathBuf> = self.folder.paths().filter(|path| !found.contains_key(*path)).cloned().collect();
        let mut changed = !gone.is_empty();
        gone.iter().for_each(|path| self.folder.remove(path));
        for (path, print) in &found {
            if self.seen.get(path) != Some(print) {
                changed = true;
                self.folder.update(path, content(path, print.size));
            }
        }
        self.seen = found;
        Ok(changed)
    }
}

/// The manifests at a path: itself, or those of the folder.
fn list(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.metadata()?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in path.read_dir()? {
        let file = entry?.path();
        if is_manifest(&file) && !file.is_dir() {
            files.push(file);
        }
    }
    Ok(files)
}

/// Dot files are an editor's or a kubelet's own.
fn is_manifest(file: &Path) -> bool {
    let hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = file.extension().and_then(|e| e.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn fingerprint(file: &Path) -> Option<Fingerprint> {
    match file.metadata() {
        Ok(m) => Some(Fingerprint {
            device: m.dev(),
            inode: m.ino(),
            size: m.len(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        }),
        // A link to nothing is a mistake worth telling; it is read, which fails, each time it changes.
        Err(_) => file.symlink_metadata().ok().map(|m| Fingerprint {
            device: m.dev(),
            inode: m.ino(),
            size: 0,
            modified: (0, 0),
            changed: (m.ctime(), m.ctime_nsec()),
        }),
    }
}

fn content(file: &Path, size: u64) -> Result<String, String> {
    if size > MAX_SIZE {
        return Err(format!("it is larger than {} MiB", MAX_SIZE >> 20));
    }
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    String::from_utf8(bytes)
        .map_err(|error| format!("it is not UTF-8 (from byte {})", error.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(port: u16) -> String {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{ports: [{{port: {port}}}]}}\n")
    }

    async fn until(watch: &mut Watch, expected: Option<u16>) {
        let port = |observed: &Observed| observed.objects.services.values().next().map(|s| s.spec.ports[0].port.get());
        let seen = watch.wait_for(|observed| port(observed) == expected);
        assert!(tokio::time::timeout(Duration::from_secs(5), seen).await.is_ok_and(|r| r.is_ok()), "{expected:?}");
    }

    /// Writes in place, atomic renames, links swapped as a kubelet does, deletion.
    #[tokio::test]
    async fn every_way_of_changing_is_seen() {
        let folder = std::env::temp_dir().join(format!("outrigger-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut watch = watch(std::slice::from_ref(&folder)).unwrap();
        until(&mut watch, None).await;
        std::fs::write(folder.join("web.yaml"), service(80)).unwrap();
        until(&mut watch, Some(80)).await;
        std::fs::write(folder.join(".web.tmp"), service(81)).unwrap();
        std::fs::rename(folder.join(".web.tmp"), folder.join("web.yaml")).unwrap();
        until(&mut watch, Some(81)).await;
        std::fs::write(folder.join("web.yaml"), "kind: [").unwrap();
        watch.wait_for(|observed| !observed.problems.is_empty()).await.unwrap();
        until(&mut watch, Some(81)).await;
        std::fs::remove_file(folder.join("web.yaml")).unwrap();
        until(&mut watch, None).await;
        for (version, port) in [("..1", 82), ("..2", 83)] {
            std::fs::create_dir_all(folder.join(version)).unwrap();
            std::fs::write(folder.join(version).join("web.yaml"), service(port)).unwrap();
            std::os::unix::fs::symlink(version, folder.join("..tmp")).unwrap();
            std::fs::rename(folder.join("..tmp"), folder.join("..data")).unwrap();
            if port == 82 {
                std::os::unix::fs::symlink("..data/web.yaml", folder.join("web.yaml")).unwrap();
            }
            until(&mut watch, Some(port)).await;
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
