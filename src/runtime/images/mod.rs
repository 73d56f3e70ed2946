//! The node's images: pulled from registries, imported from archives, unpacked once, collected.
//!
//! ```text
//! name -> registries (mirrors, credentials) -> manifest, configuration      session, remote, search
//!      -> layers: downloaded three at a time, verified, unpacked             pull, partial, unpack
//!      -> index.json                                                         index
//! ```
//!
//! Below the root: `blobs/sha256/<digest>` are manifests and configurations; `layers/<chain id>/fs` is a
//! layer as overlayfs wants it (whiteouts are devices 0/0), named as image-spec names a stack of
//! layers, so that images share them; `index.json` says which images there are; `ingest/` is what is
//! on its way. Everything gets its name by a rename after it was synced: a crash leaves nothing
//! half. A blob that came in part waits there for the next attempt. Several processes may use one store: changes of `index.json` are made under a lock, and nothing is
//! removed while anybody pulls. A layer's compressed bytes are not kept: a card has room for one form only.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

mod archive;
mod challenge;
mod collect;
mod compression;
mod digest;
mod directory;
mod error;
mod export;
mod index;
mod ingest;
mod layers;
mod manifest;
mod members;
mod name;
mod own;
mod pack;
mod partial;
mod pipeline;
mod platform;
mod pull;
mod registries;
mod remote;
mod search;
mod session;
mod sparse;
mod store;
mod tree;
mod unpack;

pub use archive::ImportOptions;
pub use collect::{Collection, Disk};
pub use error::Error;
pub use manifest::ImageConfig;
pub use own::SELF_IMAGE;
pub use pull::{LayerProgress, LayerState, Progress};
pub use registries::{Patience, RegistriesConfig};

use super::spec::{Image, RegistryAuth};
use error::Context;
use index::with_algorithm;
use members::Source;
use store::Inner;

/// The node's images. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Images(Arc<Inner>);

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
        let inner = Inner::new(root, registries)?;
        ingest::clean(root)?;
        inner.sweep(ingest::KEEP_UNUSED)?;
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
    pub async fn import(
        &self,
        reader: impl Read + Send + 'static,
        options: ImportOptions,
    ) -> Result<Vec<Image>, Error> {
        self.take(Source::Stream(Box::new(reader)), options).await
    }

    /// The same from a file, which is read where it lies if it is not compressed.
    ///
    /// # Errors
    ///
    /// As [`Images::import`].
    pub async fn import_file(&self, file: File, options: ImportOptions) -> Result<Vec<Image>, Error> {
        self.take(Source::File(file), options).await
    }

    async fn take(&self, source: Source, options: ImportOptions) -> Result<Vec<Image>, Error> {
        let inner = Arc::clone(&self.0);
        let work = tokio::task::spawn_blocking(move || archive::import(&inner, source, &options));
        work.await.unwrap_or_else(|e| Err(Error::Archive(e.to_string())))
    }

    /// Writes an archive of these images that `docker load`, containerd and [`Images::import`] take. Layers
    /// are packed anew: in the archive, images have other ids. Blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`], [`Error::Io`].
    pub fn export(&self, names: &[String], to: impl Write) -> Result<(), Error> {
        export::export(self, names, to)
    }

    /// Takes what lies in `dir` and what is put there: archives, and lists of names to pull (`*.txt`), as k3s
    /// does with its `agent/images`. Runs until cancelled.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]: the directory cannot be made or watched.
    pub async fn watch(&self, dir: &Path, token: tokio_util::sync::CancellationToken) -> Result<(), Error> {
        directory::watch(self, dir, token).await
    }

    /// Counts the changes of the list of images by this process.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
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
    /// `sha256:`. One that the disk has lost a layer of is not there: pulling it again makes it whole.
    pub fn resolve(&self, name: &str) -> Option<Image> {
        let (image, layers) = self.0.index.read(|index| {
            let id = index.find(name)?;
            index.images.get(&id).map(|record| (record.image(&id), record.layers.clone()))
        })?;
        let whole = layers.iter().all(|chain| self.0.layers.exists(chain)) && self.config(&image.id).is_ok();
        if !whole {
            tracing::warn!(
                name,
                id = image.id,
                "files of this image are lost or damaged: it counts as absent"
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
    /// [`Images::collect`]. `in_use` are the ids of images of which there are containers: they keep their
    /// last name.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`], [`Error::InUse`], [`Error::Io`].
    pub fn remove(&self, name_or_id: &str, in_use: &HashSet<String>) -> Result<(), Error> {
        self.0.change(|index| {
            let id = index.find(name_or_id).ok_or_else(|| Error::Unknown(name_or_id.to_owned()))?;
            let is_id = id == with_algorithm(name_or_id);
            let is_last = is_id || index.is_last_name(&id, name_or_id);
            if is_last && in_use.contains(&id) {
                return Err(Error::InUse(name_or_id.to_owned()));
            }
            if is_id || index.untag(&id, name_or_id) {
                index.images.remove(&id);
            }
            Ok(())
        })?;
        self.0.sweep(std::time::Duration::ZERO)
    }

    /// Bytes of all layers, as they lie on disk.
    pub fn used_bytes(&self) -> u64 {
        self.0.layers.used_bytes()
    }

    /// An error if this can be the name of no image.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidName`].
    pub fn check_name(&self, name: &str) -> Result<(), Error> {
        match self.resolve(name) {
            Some(_) => Ok(()),
            None => name::parse(name).map(drop),
        }
    }

    /// When an image came and was used last, in milliseconds since the epoch (0: never), and whether it is
    /// never collected.
    pub fn history(&self, id: &str) -> Option<(u64, u64, bool)> {
        self.0.history(id)
    }

    /// Notes that these images are used now. It is remembered across restarts, but written only when the
    /// index is, or by [`Images::save`].
    pub fn mark_used<'a>(&self, ids: impl IntoIterator<Item = &'a str>) {
        self.0.mark_used(ids);
    }

    /// Writes what is known of the use of images.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Full`].
    pub fn save(&self) -> Result<(), Error> {
        self.0.change(|_| Ok(()))
    }

    /// Whether images with this name may be collected.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Full`].
    pub fn pin(&self, id: &str, pinned: bool) -> Result<(), Error> {
        self.0.change(|index| {
            if let Some(record) = index.images.get_mut(id) {
                record.pinned = pinned;
            }
            Ok(())
        })
    }

    /// The file system the images lie on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn disk(&self) -> Result<Disk, Error> {
        Disk::of(&self.0.root)
    }

    /// Removes images that are not in use, see [`Collection`]. Answers how many bytes became free; none
    /// do while a pull is under way.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; what was removed by then is gone.
    pub fn collect(&self, collection: &Collection) -> Result<u64, Error> {
        self.0.collect(collection)
    }
}

#[cfg(test)]
mod tests;
