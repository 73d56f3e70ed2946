//! The node's images: pulled from registries, imported from archives, unpacked once, collected.
//!
//! ```text
//! name -> registries (mirrors, credentials) -> manifest, configuration      remote, manifest
//!      -> layers: downloaded three at a time, verified, unpacked             pull, unpack
//!      -> index.json                                                         index
//! ```
//!
//! Below the root: `blobs/sha256/<digest>` are manifests and configurations; `layers/<chain id>/fs` is a
//! layer as overlayfs wants it (whiteouts are devices 0/0), named as image-spec names a stack of
//! layers, so that images share them; `index.json` says which images there are; `ingest/` is what is
//! on its way. Everything gets its name by a rename after it was synced: a crash leaves nothing
//! half. Several processes may use one store: changes of `index.json` are made under a lock, and nothing is
//! removed while anybody pulls. A layer's compressed bytes are not kept: a card has room for one form only.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

mod archive;
mod compression;
mod digest;
mod error;
mod index;
mod ingest;
mod layers;
mod manifest;
mod name;
mod own;
mod pull;
mod registries;
mod remote;
mod tree;
mod unpack;

pub use error::Error;
pub use manifest::ImageConfig;
pub use own::SELF_IMAGE;
pub use pull::{LayerProgress, LayerState, Progress};
pub use registries::RegistriesConfig;

use super::spec::{Image, RegistryAuth};
use error::Context;
use index::Record;
use layers::Layers;

/// A layer that no image has is kept this long at a start: the pull it came with may be tried again.
const KEEP_UNUSED: Duration = Duration::from_secs(24 * 3600);

/// The node's images. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    registries: RegistriesConfig,
    layers: Layers,
    index: index::Shared,
}

impl Images {
    /// Opens or makes the image store in `root`, and removes what interrupted pulls have left.
    /// Several processes may have it open.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Full`].
    pub fn open(root: &Path, registries: RegistriesConfig) -> Result<Self, Error> {
        for dir in ["blobs/sha256", "layers", "ingest"] {
            let dir = root.join(dir);
            std::fs::create_dir_all(&dir).on(&dir)?;
        }
        // Layers below are root's to see: their files keep the modes they have in their images.
        std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o711)).on(root)?;
        let (index, layers) = (index::Shared::open(root)?, Layers::new(root));
        let inner = Inner { root: root.to_owned(), registries, layers, index };
        ingest::clean(root)?;
        inner.sweep(KEEP_UNUSED)?;
        Ok(Self(Arc::new(inner)))
    }

    /// Gets an image from its registry or a mirror of it. What is there already is not fetched
    /// again. `progress` is told now and then, and once at the end.
    ///
    /// # Errors
    ///
    /// Every kind but [`Error::Archive`], [`Error::Unknown`] and [`Error::InUse`]. What was unpacked by then is
    /// used by the next attempt.
    pub async fn pull(
        &self,
        name: &str,
        auth: Option<RegistryAuth>,
        progress: impl Fn(Progress) + Send + Sync,
    ) -> Result<Image, Error> {
        pull::pull(&self.0, name, auth, progress).await
    }

    /// Takes all images of an archive, as `docker save` or OCI tools make it, also compressed.
    ///
    /// # Errors
    ///
    /// [`Error::Archive`] and [`Error::Invalid`] say what is wrong with it, [`Error::DigestMismatch`] that
    /// it is damaged, [`Error::NoPlatform`] that it is for another machine.
    pub async fn import(&self, reader: impl Read + Send + 'static) -> Result<Vec<Image>, Error> {
        let inner = Arc::clone(&self.0);
        let work = tokio::task::spawn_blocking(move || archive::import(&inner, reader));
        work.await.unwrap_or_else(|e| Err(Error::Archive(e.to_string())))
    }

    /// The same from a file.
    ///
    /// # Errors
    ///
    /// As [`Images::import`].
    pub async fn import_file(&self, path: &Path) -> Result<Vec<Image>, Error> {
        let file = std::fs::File::open(path).on(path)?;
        self.import(file).await
    }

    /// An image made of the running executable, called [`SELF_IMAGE`]: it runs `/kedge demo`. Made
    /// again when the executable has changed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Full`].
    pub async fn self_image(&self) -> Result<Image, Error> {
        let inner = Arc::clone(&self.0);
        let work = tokio::task::spawn_blocking(move || own::make(&inner, Path::new("/proc/self/exe")));
        work.await.unwrap_or_else(|e| Err(Error::invalid(SELF_IMAGE, e)))
    }

    /// All images, by id.
    pub fn list(&self) -> Vec<Image> {
        self.0.index.read(|index| index.images.iter().map(|(id, record)| record.image(id)).collect())
    }

    /// The image with this name, as [`Images::pull`] takes it, or with this id, with or without
    /// `sha256:`.
    pub fn resolve(&self, name: &str) -> Option<Image> {
        let (image, layers) = self.0.index.read(|index| {
            let id = index.find(name)?;
            index.images.get(&id).map(|record| (record.image(&id), record.layers.clone()))
        })?;
        // What a disk has lost is not there: it has to be pulled again.
        let whole = layers.iter().all(|chain| self.0.layers.exists(chain)) && self.config(&image.id).is_ok();
        if !whole {
            tracing::warn!(
                name,
                id = image.id,
                "files of this image are lost or damaged; it counts as absent"
            );
        }
        whole.then_some(image)
    }

    /// What a container of this image runs unless told otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`], [`Error::Io`], [`Error::Invalid`].
    pub fn config(&self, image_id: &str) -> Result<ImageConfig, Error> {
        let id = with_algorithm(image_id);
        if !self.0.index.read(|index| index.images.contains_key(&id)) {
            return Err(Error::Unknown(image_id.to_owned()));
        }
        let path = self.0.blob(&id);
        let bytes = std::fs::read(&path).on(&path)?;
        digest::check(&id, &id, &bytes)?;
        Ok(manifest::Config::parse(&id, &bytes)?.run)
    }

    /// The directories of its layers, top first, as overlayfs takes them in `lowerdir`.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`].
    pub fn layers(&self, image_id: &str) -> Result<Vec<PathBuf>, Error> {
        let chains = self.0.index.read(|index| {
            let record = index.images.get(&with_algorithm(image_id))?;
            Some(record.layers.clone())
        });
        let chains = chains.ok_or_else(|| Error::Unknown(image_id.to_owned()))?;
        Ok(chains.iter().rev().map(|chain| self.0.layers.path(chain)).collect())
    }

    /// Removes a name, or an image with all its names if an id is given. An image without any
    /// name is removed with the layers that no other needs; while a pull is under way, these stay until
    /// [`Images::collect`]. `in_use` are the ids of images of which there are containers: their
    /// names go, their files stay; by id they are refused.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`], [`Error::InUse`], [`Error::Io`].
    pub fn remove(&self, name_or_id: &str, in_use: &HashSet<String>) -> Result<(), Error> {
        self.0.index.change(|index| {
            let id = index.find(name_or_id).ok_or_else(|| Error::Unknown(name_or_id.to_owned()))?;
            let is_id = id == with_algorithm(name_or_id);
            if is_id && in_use.contains(&id) {
                return Err(Error::InUse(name_or_id.to_owned()));
            }
            if is_id || index.untag(&id, name_or_id) && !in_use.contains(&id) {
                index.images.remove(&id);
            }
            Ok(())
        })?;
        self.0.sweep(Duration::ZERO)
    }

    /// Bytes of all layers, as they lie on disk.
    pub fn used_bytes(&self) -> u64 {
        self.0.layers.used_bytes()
    }

    /// Removes images that are not in use, those without a name first, then the oldest, until at most
    /// `target_bytes` are used. `in_use` are ids. Answers how many bytes became free; none
    /// do while a pull is under way.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; what was removed by then is gone.
    pub fn collect(&self, in_use: &HashSet<String>, target_bytes: u64) -> Result<u64, Error> {
        let before = self.used_bytes();
        self.0.sweep(Duration::ZERO)?;
        let mut candidates: Vec<(bool, u64, String)> = self.0.index.read(|index| {
            let images = index.images.iter();
            // What the executable itself carries takes no room of its own.
            let free = images.filter(|(id, r)| !in_use.contains(*id) && !r.tags.contains(SELF_IMAGE));
            free.map(|(id, record)| (!record.tags.is_empty(), record.added, id.clone())).collect()
        });
        candidates.sort();
        let mut used = self.used_bytes();
        for (_, _, id) in candidates {
            if used <= target_bytes {
                break;
            }
            self.0.index.change(|index| {
                let _: () = drop(index.images.remove(&id));
                Ok(())
            })?;
            self.0.sweep(Duration::ZERO)?;
            let now = self.used_bytes();
            if now == used && self.0.is_pulling()? {
                // Nothing becomes free now: the others can stay.
                break;
            }
            used = now;
        }
        Ok(before.saturating_sub(self.used_bytes()))
    }
}

/// A finished image: what [`Inner::add`] needs to know.
#[derive(Debug)]
struct Finished {
    /// The configuration's bytes.
    config: Vec<u8>,
    /// The manifest's bytes, if it came with one.
    manifest: Option<Vec<u8>>,
    /// Chain ids, lowest first.
    layers: Vec<String>,
    tags: Vec<String>,
    digests: Vec<String>,
}

impl Inner {
    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        self.root.join("blobs/sha256").join(hex)
    }

    /// Adds an image whose layers are all there, or names to it. Its tags leave other images.
    fn add(&self, finished: Finished) -> Result<Image, Error> {
        let id = digest::of(&finished.config);
        let user = manifest::Config::parse(&id, &finished.config)?.run.user;
        let size = self.layers.size_of(&finished.layers);
        self.index.change(|index| {
            self.write_blob(&id, &finished.config)?;
            let manifest = finished.manifest.as_deref().map(|bytes| (digest::of(bytes), bytes));
            if let Some((digest, bytes)) = &manifest {
                self.write_blob(digest, bytes)?;
            }
            for record in index.images.values_mut() {
                record.tags.retain(|tag| !finished.tags.contains(tag));
            }
            let new = || Record { added: index::now(), ..Record::default() };
            let record = index.images.entry(id.clone()).or_insert_with(new);
            (record.layers, record.size, record.user) = (finished.layers, size, user);
            if let Some((digest, _)) = manifest {
                record.manifest = digest;
            }
            record.tags.extend(finished.tags);
            record.digests.extend(finished.digests);
            Ok(record.image(&id))
        })
    }

    /// Removes layers older than `age`, manifests and configurations that no image has, unless
    /// somebody may be about to need them.
    fn sweep(&self, age: Duration) -> Result<(), Error> {
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
    fn is_pulling(&self) -> Result<bool, Error> {
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

fn with_algorithm(id: &str) -> String {
    match id.starts_with("sha256:") {
        true => id.to_owned(),
        false => format!("sha256:{id}"),
    }
}

/// Locks by name, for work that should be done once.
#[derive(Debug, Default)]
struct Locks(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    async fn lock(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock();
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(name.to_owned()).or_default())
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests;
