//! The labels and annotations of what an API server shows, as it is decided by them who gets a sidecar.

use injector::Marks;
use kube::api::ObjectMeta;

/// Those of an object that was asked for.
#[must_use]
pub fn of(metadata: ObjectMeta) -> Marks {
    Marks { labels: metadata.labels.unwrap_or_default(), annotations: metadata.annotations.unwrap_or_default() }
}

/// Those of an object that is watched.
pub(crate) fn of_watched(metadata: &api::ObjectMeta) -> Marks {
    Marks { labels: metadata.labels.clone(), annotations: metadata.annotations.clone() }
}
