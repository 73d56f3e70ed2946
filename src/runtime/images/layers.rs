//! Unpacked layers: each stack of layers is a directory named by its chain id, made whole or not at all.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::digest;
use super::error::{Context, Error};
use super::ingest;
use super::pipeline;
use super::unpack;

/// The directory of layers. All it knows lies there, so that several processes may use it.
#[derive(Debug)]
pub(super) struct Layers {
    root: PathBuf,
    /// Held while a layer is made, so that it is fetched and unpacked once.
    pub locks: Locks,
}

impl Layers {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), locks: Locks::default() }
    }

    /// The directory of a layer's files.
    pub(super) fn path(&self, chain: &str) -> PathBuf {
        self.dir(chain).join("fs")
    }

    fn dir(&self, chain: &str) -> PathBuf {
        self.root.join("layers").join(chain.strip_prefix("sha256:").unwrap_or(chain))
    }

    /// Whether it is there. Only for who keeps it from being removed, see [`ingest::keep_layers`].
    pub(super) fn exists(&self, chain: &str) -> bool {
        self.dir(chain).join("size").exists() && self.path(chain).is_dir()
    }

    /// Makes the layer `chain` from a tar archive, compressed or not, whose uncompressed bytes must
    /// have the digest `diff_id`. `below` are the chains under it, lowest first, which are there.
    pub(super) fn make(
        &self,
        chain: &str,
        diff_id: &str,
        below: &[String],
        archive: impl Read + Send,
    ) -> Result<(), Error> {
        let lower: Vec<PathBuf> = below.iter().rev().map(|chain| self.path(chain)).collect();
        self.make_with(chain, |target| {
            let unpack = |tar: &mut dyn Read| unpack::unpack(tar, target, &lower);
            let named = |error| match error {
                Error::Invalid { name, reason } if name == "layer" => {
                    Error::invalid(format!("layer {diff_id}"), reason)
                }
                error => error,
            };
            let (size, found) = pipeline::hashed(archive, unpack).map_err(named)?;
            let found = found.map_err(|e| Error::invalid(format!("layer {diff_id}"), e))?;
            digest::equal(&format!("layer {diff_id}"), diff_id, &found)?;
            Ok(size)
        })
    }

    /// Makes the layer `chain` by `fill`, which is given an empty directory and answers how many
    /// bytes it has put there.
    pub(super) fn make_with(
        &self,
        chain: &str,
        fill: impl FnOnce(&Path) -> Result<u64, Error>,
    ) -> Result<(), Error> {
        if self.exists(chain) {
            return Ok(());
        }
        let staging = ingest::path(&self.root);
        let target = staging.join("fs");
        let make = || {
            fs::create_dir_all(&target).on(&target)?;
            let size = fill(&target)?;
            fs::write(staging.join("size"), size.to_string()).on(&staging)?;
            self.commit(&staging, chain)
        };
        make().inspect_err(|_: &Error| drop(fs::remove_dir_all(&staging)))
    }

    /// Syncs what was unpacked and gives it its name, unless another was quicker.
    fn commit(&self, staging: &Path, chain: &str) -> Result<(), Error> {
        let dir = fs::File::open(staging).on(staging)?;
        // One sync for thousands of files.
        nix::unistd::syncfs(dir.as_raw_fd()).on(staging)?;
        let target = self.dir(chain);
        match fs::rename(staging, &target) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty && self.exists(chain) => {
                return fs::remove_dir_all(staging).on(staging);
            }
            // What the disk has left of it is in the way.
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                let trash = ingest::path(&self.root);
                fs::rename(&target, &trash).on(&target)?;
                fs::rename(staging, &target).on(&target)?;
                fs::remove_dir_all(&trash).on(&trash)?;
            }
            result => result.on(&target)?,
        }
        let parent = self.root.join("layers");
        fs::File::open(&parent).and_then(|d| d.sync_all()).on(&parent)
    }

    /// Takes the names of all layers that are not in `used` and are older than `age`; answers what
    /// is to be deleted then. A layer that is not whole has no use at any age.
    pub(super) fn discard(&self, used: &HashSet<String>, age: Duration) -> Result<Vec<PathBuf>, Error> {
        let dir = self.root.join("layers");
        let mut discarded = Vec::new();
        for entry in fs::read_dir(&dir).on(&dir)? {
            let entry = entry.on(&dir)?;
            let chain = format!("sha256:{}", entry.file_name().to_string_lossy());
            let changed = entry.metadata().and_then(|m| m.modified()).on(&dir)?;
            let is_young = SystemTime::now().duration_since(changed).unwrap_or_default() < age;
            if self.exists(&chain) && (used.contains(&chain) || is_young) {
                continue;
            }
            let trash = ingest::path(&self.root);
            fs::rename(entry.path(), &trash).on(&trash)?;
            discarded.push(trash);
        }
        Ok(discarded)
    }

    /// Bytes of all layers.
    pub(super) fn used_bytes(&self) -> u64 {
        let entries = fs::read_dir(self.root.join("layers")).into_iter().flatten().flatten();
        entries.filter_map(|entry| size(&entry.path())).sum()
    }

    /// Bytes of these layers.
    pub(super) fn size_of(&self, chains: &[String]) -> u64 {
        chains.iter().filter_map(|chain| size(&self.dir(chain))).sum()
    }
}

fn size(layer: &Path) -> Option<u64> {
    fs::read_to_string(layer.join("size")).ok()?.trim().parse().ok()
}

/// Locks by name, for work that should be done once.
#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    pub(super) async fn lock(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock();
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(name.to_owned()).or_default())
        };
        lock.lock_owned().await
    }
}
