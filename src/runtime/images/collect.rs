//! What images are removed when the disk fills up: kubelet's rules (`image_gc_manager`).

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::error::{Context, Error};
use super::index;
use super::own::SELF_IMAGE;
use super::store::Inner;

/// What [`super::Images::collect`] is to do.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    /// Ids of images that stay.
    pub in_use: HashSet<String>,
    /// Bytes to make free at least; then it ends. `u64::MAX` removes all that may go.
    pub bytes: u64,
    /// Images that came or were used since are kept.
    pub min_age: Duration,
    /// What was not used for so long goes, however much is free.
    pub max_age: Option<Duration>,
}

/// Space on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes that root may still use.
    pub available: u64,
}

impl Disk {
    pub(super) fn of(path: &Path) -> Result<Self, Error> {
        let stat = nix::sys::statvfs::statvfs(path).on(path)?;
        let block = stat.fragment_size();
        Ok(Self { capacity: stat.blocks() * block, available: stat.blocks_available() * block })
    }
}

/// An image that may be removed.
struct Candidate {
    id: String,
    used: u64,
    added: u64,
    has_name: bool,
}

impl Inner {
    pub(super) fn mark_used<'a>(&self, ids: impl IntoIterator<Item = &'a str>) {
        let now = index::now();
        let mut used = self.used.lock();
        for id in ids {
            used.insert(id.to_owned(), now);
        }
    }

    pub(super) fn history(&self, id: &str) -> Option<(u64, u64, bool)> {
        let noted = self.used.lock().get(id).copied().unwrap_or(0);
        self.index.read(|index| {
            let record = index.images.get(id)?;
            Some((record.added, record.used.max(noted), record.pinned || record.tags.contains(SELF_IMAGE)))
        })
    }

    pub(super) fn collect(&self, collection: &Collection) -> Result<u64, Error> {
        let before = self.layers.used_bytes();
        self.sweep(Duration::ZERO)?;
        let (now, mut used) = (index::now(), self.layers.used_bytes());
        for candidate in self.candidates(collection, now) {
            let unused = Duration::from_millis(now.saturating_sub(candidate.used.max(candidate.added)));
            let is_old = collection.max_age.is_some_and(|max| unused > max);
            if !is_old && before.saturating_sub(used) >= collection.bytes {
                continue;
            }
            self.change(|index| {
                let _: () = drop(index.images.remove(&candidate.id));
                Ok(())
            })?;
            tracing::info!(image = candidate.id, ?unused, "an unused image is removed");
            self.sweep(Duration::ZERO)?;
            let after = self.layers.used_bytes();
            if after == used && self.is_pulling()? {
                // Nothing becomes free now: the others can stay.
                break;
            }
            used = after;
        }
        let known: HashSet<String> = self.index.read(|index| index.images.keys().cloned().collect());
        self.used.lock().retain(|id, _| known.contains(id));
        Ok(before.saturating_sub(used))
    }

    /// What may go: that without a name first, then what was not used for longest.
    fn candidates(&self, collection: &Collection, now: u64) -> Vec<Candidate> {
        let noted = self.used.lock().clone();
        let youngest = now.saturating_sub(u64::try_from(collection.min_age.as_millis()).unwrap_or(u64::MAX));
        let mut candidates: Vec<Candidate> = self.index.read(|index| {
            let free = index.images.iter().filter(|(id, record)| {
                // What the executable itself carries takes no room of its own.
                !record.pinned && !record.tags.contains(SELF_IMAGE) && !collection.in_use.contains(*id)
            });
            free.map(|(id, record)| Candidate {
                id: id.clone(),
                used: record.used.max(noted.get(id).copied().unwrap_or(0)),
                added: record.added,
                has_name: !record.tags.is_empty() || !record.digests.is_empty(),
            })
            .collect()
        });
        candidates.retain(|c| collection.min_age.is_zero() || c.added.max(c.used) <= youngest);
        candidates.sort_by(|a, b| {
            let key = |c: &Candidate| (c.has_name, c.used, c.added);
            key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id))
        });
        candidates
    }
}
