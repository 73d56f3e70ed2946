//! The store itself: what images are made of, and what is thrown away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::error::{Context, Error};
use super::index::{self, Index, Record};
use super::layers::Layers;
use super::registries::{Registries, RegistriesConfig};
use super::{digest, ingest, manifest};
use crate::runtime::spec::Image;

/// An image store.
#[derive(Debug)]
pub(super) struct Inner {
    pub root: PathBuf,
    pub registries: Registries,
    pub layers: Layers,
    pub index: index::Shared,
    /// When images were used last, as far as the index may not know it yet.
    pub used: Mutex<BTreeMap<String, u64>>,
    pub changes: watch::Sender<u64>,
}

/// A finished image: what [`Inner::add`] needs to know.
#[derive(Debug, Default)]
pub(super) struct Finished {
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// The manifest's bytes, if it came with one.
    pub manifest: Option<Vec<u8>>,
    /// Chain ids, lowest first.
    pub layers: Vec<String>,
    pub tags: Vec<String>,
    pub digests: Vec<String>,
    /// Never to be collected.
    pub pinned: bool,
}

impl Inner {
    pub(super) fn new(root: &Path, registries: RegistriesConfig) -> Result<Self, Error> {
        let (index, layers) = (index::Shared::open(root)?, Layers::new(root));
        let registries = Registries::new(registries);
        let (used, changes) = (Mutex::default(), watch::Sender::new(0));
        Ok(Self { root: root.to_owned(), registries, layers, index, used, changes })
    }

    /// Changes the index, with what is known of the use of images, and tells of it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T, Error>) -> Result<T, Error> {
        let used = self.used.lock().clone();
        let result = self.index.change(|index| {
            for (id, record) in &mut index.images {
                record.used = record.used.max(used.get(id).copied().unwrap_or(0));
            }
            change(index)
        })?;
        self.changes.send_modify(|n| *n += 1);
        Ok(result)
    }

    pub(super) fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        self.root.join("blobs/sha256").join(hex)
    }

    /// Adds an image whose layers are all there, or names to it. Its tags leave other images.
    pub(super) fn add(&self, finished: Finished) -> Result<Image, Error> {
        let id = digest::of(&finished.config);
        let user = manifest::Config::parse(&id, &finished.config)?.run.user;
        let size = self.layers.size_of(&finished.layers);
        self.change(|index| {
            self.write_blob(&id, &finished.config)?;
            let manifest = finished.manifest.as_deref().map(|bytes| (digest::of(bytes), bytes));
            if let Some((digest, bytes)) = &manifest {
                self.write_blob(digest, bytes)?;
            }
            for (other, record) in &mut index.images {
                record.tags.retain(|tag| !finished.tags.contains(tag));
                // What an archive has replaced is like any other image.
                record.pinned &= *other == id || !record.tags.is_empty();
            }
            let new = || Record { added: index::now(), ..Record::default() };
            let record = index.images.entry(id.clone()).or_insert_with(new);
            (record.layers, record.size, record.user) = (finished.layers, size, user);
            if let Some((digest, _)) = manifest {
                record.manifest = digest;
            }
            record.tags.extend(finished.tags);
            record.digests.extend(finished.digests);
            record.pinned |= finished.pinned;
            Ok(record.image(&id))
        })
    }

    /// Removes layers older than `age`, manifests and configurations that no image has, unless
    /// somebody may be about to need them.
    pub(super) fn sweep(&self, age: Duration) -> Result<(), Error> {
        let Some(lock) = ingest::remove_layers(&self.root)? else { return Ok(()) };
        let (layers, blobs) = self.index.read(|index| (index.layers(), index.blobs()));
        let discarded = self.layers.discard(&layers, age)?;
        let dir = self.root.join("blobs/sha256");
        for entry in std::fs::read_dir(&dir).on(&dir)? {
            let entry = entry.on(&dir)?;
            if !blobs.contains(&format!("sha256:{}", entry.file_name().to_string_lossy())) {
                std::fs::remove_file(entry.path()).on(&dir)?;
            }
        }
        // Their names are gone: deleting them may take its time.
        drop(lock);
        discarded.iter().try_for_each(|path| ingest::remove(path))
    }

    /// Whether somebody keeps layers from being removed.
    pub(super) fn is_pulling(&self) -> Result<bool, Error> {
        Ok(ingest::remove_layers(&self.root)?.is_none())
    }

    fn write_blob(&self, digest: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.blob(digest);
        match std::fs::read(&path).is_ok_and(|found| found == bytes) {
            true => Ok(()),
            false => ingest::write_atomically(&self.root, &path, bytes),
        }
    }
}
