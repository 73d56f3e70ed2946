//! Images that nobody uses go when the disk fills up: kubelet's image collection.
//!
//! Looked at when the list of images changes, and every five minutes; a look is one `statvfs`. What was
//! used last is remembered by the store and written with its index, so that it costs no writes of its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::images::PullError;
use crate::runtime::images::{Collection, Disk};

/// kubelet's period.
const PERIOD: Duration = Duration::from_secs(300);

/// Collects images; see [`ImageGc::run`].
pub(crate) struct ImageGc {
    context: Arc<Context>,
    began: Instant,
    /// Whether the last collection failed: only a second failure in a row is an event.
    failed: Mutex<bool>,
}

impl ImageGc {
    /// Nothing has been looked at yet.
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, began: Instant::now(), failed: Mutex::new(false) }
    }

    /// Keeps the disk below its thresholds until cancelled, and has the node's status tell of new images.
    pub(crate) async fn run(&self, token: CancellationToken) {
        let mut changes = self.context.images.changes();
        loop {
            changes.mark_unchanged();
            self.look().await;
            let present: Vec<String> = self.context.images.list().await.into_iter().map(|i| i.id).collect();
            self.context.puller.access().keep(&present).await;
            tokio::select! {
                () = token.cancelled() => break,
                _ = changes.changed() => self.context.images_changed.notify_one(),
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
        if let Err(error) = self.context.images.save().await {
            tracing::warn!(%error, "the times images were used at were not saved");
        }
    }

    async fn look(&self) {
        let result = self.collect().await;
        let failed_before = std::mem::replace(&mut *self.failed.lock(), result.is_err());
        if let Err(error) = result {
            tracing::warn!(error, "images could not be collected");
            if failed_before {
                self.context.node_event("Warning", "ImageGCFailed", error);
            }
        }
    }

    async fn collect(&self) -> Result<(), String> {
        let settings = &self.context.settings.kubelet;
        let in_use = in_use(&self.context).await;
        // Just after a start it is not known yet what will be used.
        let max_age = settings.maximum_image_ttl.filter(|max| self.began.elapsed() > *max);
        let text = |e: PullError| e.to_string();
        let disk = self.context.images.disk().await.map_err(text)?;
        if disk.capacity == 0 {
            let error = "invalid capacity 0 on image filesystem".to_owned();
            self.context.node_event("Warning", "InvalidDiskCapacity", error.clone());
            return Err(error);
        }
        let bytes = excess(disk, settings.image_gc_high_threshold, settings.image_gc_low_threshold);
        if bytes == 0 && max_age.is_none() {
            return Ok(());
        }
        let collection = Collection { in_use, bytes, min_age: settings.minimum_image_ttl, max_age };
        let freed = self.context.images.collect(collection).await.map_err(text)?;
        if freed < bytes {
            let error = format!(
                "Failed to garbage collect required amount of images. Attempted to free {bytes} bytes, but only found {freed} bytes eligible to free."
            );
            self.context.node_event("Warning", "FreeDiskSpaceFailed", error.clone());
            return Err(error);
        }
        Ok(())
    }
}

/// Bytes that have to become free: none below the high threshold, else as many as lead to the low one.
fn excess(disk: Disk, high: u8, low: u8) -> u64 {
    let available = disk.available.min(disk.capacity);
    let part = |n: u64, percent: u128| u64::try_from(u128::from(n) * percent / 100).unwrap_or(u64::MAX);
    let free_percent = u128::from(available) * 100 / u128::from(disk.capacity.max(1));
    if 100 - free_percent < u128::from(high) {
        return 0;
    }
    part(disk.capacity, 100 - u128::from(low.min(100))).saturating_sub(available)
}

/// Ids of the images that containers have, also those that ended. They are marked as used.
async fn in_use(context: &Context) -> HashSet<String> {
    let sandboxes = context.runtime.sandboxes().await;
    let ids: HashSet<String> = sandboxes.into_iter().flat_map(|s| s.containers).map(|c| c.image).collect();
    context.images.mark_used(&ids.iter().cloned().collect::<Vec<_>>());
    ids
}

/// Makes at least so many bytes free on the file system of the images, if unused images have them, for
/// whoever finds the disk under pressure. Answers how many became free.
///
/// # Errors
/// An image could not be removed.
pub(crate) async fn free(context: &Context, bytes: u64) -> Result<u64, PullError> {
    let in_use = in_use(context).await;
    let min_age = context.settings.kubelet.minimum_image_ttl;
    context.images.collect(Collection { in_use, bytes, min_age, max_age: None }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_the_thresholds_nothing_goes() {
        for (available, expected) in [(1000, 0), (160, 0), (159, 41), (150, 50), (149, 51), (0, 200)] {
            let disk = Disk { capacity: 1000, available };
            assert_eq!(excess(disk, 85, 80), expected, "{available} of 1000 available");
        }
        let huge = Disk { capacity: u64::MAX, available: 0 };
        assert_eq!(excess(huge, 85, 80), u64::MAX / 5);
        assert_eq!(excess(Disk { capacity: 10, available: 20 }, 85, 80), 0);
        assert_eq!(excess(Disk { capacity: 1000, available: 1 }, 100, 80), 199, "1 of 1000 is 0 percent");
    }
}
