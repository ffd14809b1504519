//! The authority of a state folder as it changes: a rotation is taken up while the pilot runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Ca, CaError, state};

/// The latest authority.
pub type Authority = tokio::sync::watch::Receiver<Arc<Ca>>;

/// Rotations are rare, and everyone waits for seconds in them anyway.
const POLL: Duration = Duration::from_millis(500);

/// Opens the authority of a folder, and follows it for as long as anyone listens.
///
/// # Errors
/// As [`Ca::open`]. Later, what cannot be read leaves the authority as it was.
pub fn watch(folder: &Path) -> Result<Authority, CaError> {
    let before = times(folder);
    let (sender, receiver) = tokio::sync::watch::channel(Arc::new(Ca::open(folder)?));
    // What has just been made here is no change.
    let mut seen = if before.iter().all(Option::is_none) { times(folder) } else { before };
    let folder: PathBuf = folder.to_owned();
    tokio::spawn(async move {
        while !sender.is_closed() {
            tokio::time::sleep(POLL).await;
            let now = times(&folder);
            if now == seen {
                continue;
            }
            match Ca::open(&folder) {
                Ok(ca) => {
                    tracing::info!("the CA has changed");
                    seen = now;
                    sender.send_replace(Arc::new(ca));
                }
                // Perhaps one file is there and the other not yet.
                Err(error) => tracing::warn!(%error, "the CA stays as it was"),
            }
        }
    });
    Ok(receiver)
}

fn times(folder: &Path) -> [Option<SystemTime>; 3] {
    [state::KEY, state::ROOT, state::CHAIN].map(|name| folder.join(name).metadata().and_then(|m| m.modified()).ok())
}
