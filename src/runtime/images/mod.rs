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
//! half. A layer's compressed bytes are not kept: a card has room for one form only.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

mod archive;
mod compression;
mod digest;
mod error;
mod index;
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
use index::{Index, Record};
use layers::Layers;

/// The node's images. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Images(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    registries: RegistriesConfig,
    layers: Layers,
    index: Mutex<Index>,
}

impl Images {
    /// Opens or makes the image store in `root`, and removes what interrupted pulls have left.
    /// One process at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Full`].
    pub fn open(root: &Path, registries: RegistriesConfig) -> Result<Self, Error> {
        for dir in ["blobs/sha256", "layers"] {
            let dir = root.join(dir);
            std::fs::create_dir_all(&dir).on(&dir)?;
        }
        let ingest = root.join("ingest");
        if ingest.exists() {
            std::fs::remove_dir_all(&ingest).on(&ingest)?;
        }
        std::fs::create_dir_all(&ingest).on(&ingest)?;
        let index = Index::load(root)?;
        let layers = Layers::open(root, &index.layers())?;
        let images =
            Self(Arc::new(Inner { root: root.to_owned(), registries, layers, index: Mutex::new(index) }));
        images.remove_blobs()?;
        Ok(images)
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
        self.0.index.lock().images.iter().map(|(id, record)| record.image(id)).collect()
    }

    /// The image with this name, as [`Images::pull`] takes it, or with this id, with or without
    /// `sha256:`.
    pub fn resolve(&self, name: &str) -> Option<Image> {
        let index = self.0.index.lock();
        let id = index.find(name)?;
        index.images.get(&id).map(|record| record.image(&id))
    }

    /// What a container of this image runs unless told otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`], [`Error::Io`], [`Error::Invalid`].
    pub fn config(&self, image_id: &str) -> Result<ImageConfig, Error> {
        if self.resolve(image_id).is_none() {
            return Err(Error::Unknown(image_id.to_owned()));
        }
        let id = with_algorithm(image_id);
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
        let index = self.0.index.lock();
        let record = index.images.get(&with_algorithm(image_id));
        let record = record.ok_or_else(|| Error::Unknown(image_id.to_owned()))?;
        Ok(record.layers.iter().rev().map(|chain| self.0.layers.path(chain)).collect())
    }

    /// Removes a name, or an image with all its names if an id is given. An image without any
    /// name is removed with the layers that no other needs. `in_use` are the ids of images of which there
    /// are containers: their names go, their files stay until [`Images::collect`]; by id they
    /// are refused.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`], [`Error::InUse`], [`Error::Io`].
    pub fn remove(&self, name_or_id: &str, in_use: &HashSet<String>) -> Result<(), Error> {
        let mut index = self.0.index.lock();
        let id = index.find(name_or_id).ok_or_else(|| Error::Unknown(name_or_id.to_owned()))?;
        let is_id = id == with_algorithm(name_or_id);
        if is_id && in_use.contains(&id) {
            return Err(Error::InUse(name_or_id.to_owned()));
        }
        if is_id || index.untag(&id, name_or_id) && !in_use.contains(&id) {
            index.images.remove(&id);
        }
        index.save(&self.0.root)?;
        let layers = index.layers();
        self.0.layers.remove_except(&layers)?;
        drop(index);
        self.remove_blobs()
    }

    /// Bytes of all layers, as they lie on disk.
    pub fn used_bytes(&self) -> u64 {
        self.0.layers.used_bytes()
    }

    /// Removes images that are not in use, without a name first, then the oldest, until at most
    /// `target_bytes` are used. `in_use` are ids. Answers how many bytes became free.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; what was removed by then is gone.
    pub fn collect(&self, in_use: &HashSet<String>, target_bytes: u64) -> Result<u64, Error> {
        let before = self.used_bytes();
        let mut index = self.0.index.lock();
        self.0.layers.remove_except(&index.layers())?;
        let mut candidates: Vec<(bool, u64, String)> = index
            .images
            .iter()
            // What the executable itself carries takes no room of its own.
            .filter(|(id, record)| !in_use.contains(*id) && !record.tags.contains(SELF_IMAGE))
            .map(|(id, record)| (!record.tags.is_empty(), record.added, id.clone()))
            .collect();
        candidates.sort();
        for (_, _, id) in candidates {
            if self.used_bytes() <= target_bytes {
                break;
            }
            index.images.remove(&id);
            index.save(&self.0.root)?;
            self.0.layers.remove_except(&index.layers())?;
        }
        drop(index);
        self.remove_blobs()?;
        Ok(before.saturating_sub(self.used_bytes()))
    }

    /// Removes manifests and configurations that no image needs.
    fn remove_blobs(&self) -> Result<(), Error> {
        // Locked throughout: a pull writes its blobs and its record under this lock too.
        let index = self.0.index.lock();
        let keep: HashSet<&str> = index
            .images
            .iter()
            .flat_map(|(id, record)| [id.as_str(), record.manifest.as_str()])
            .filter_map(|digest| digest.strip_prefix("sha256:"))
            .collect();
        let dir = self.0.root.join("blobs/sha256");
        for entry in std::fs::read_dir(&dir).on(&dir)? {
            let path = entry.on(&dir)?.path();
            if path.file_name().and_then(|n| n.to_str()).is_none_or(|n| !keep.contains(n)) {
                std::fs::remove_file(&path).on(&path)?;
            }
        }
        Ok(())
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
        let mut index = self.index.lock();
        self.write_blob(&id, &finished.config)?;
        let manifest = match &finished.manifest {
            Some(bytes) => {
                let digest = digest::of(bytes);
                self.write_blob(&digest, bytes)?;
                digest
            }
            None => String::new(),
        };
        let size = self.layers.size_of(&finished.layers);
        for record in index.images.values_mut() {
            record.tags.retain(|tag| !finished.tags.contains(tag));
        }
        let record = index.images.entry(id.clone()).or_insert_with(Record::default);
        if record.added == 0 {
            record.added = index::now();
        }
        (record.layers, record.size, record.user) = (finished.layers, size, user);
        if !manifest.is_empty() {
            record.manifest = manifest;
        }
        record.tags.extend(finished.tags);
        record.digests.extend(finished.digests);
        let image = record.image(&id);
        index.save(&self.root)?;
        Ok(image)
    }

    fn write_blob(&self, digest: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.blob(digest);
        match path.exists() {
            true => Ok(()),
            false => index::write_atomically(&self.root, &path, bytes),
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
