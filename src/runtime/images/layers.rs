//! Unpacked layers: each stack of layers is a directory named by its chain id, made whole or not at all.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::Locks;
use super::compression;
use super::digest::{self, HashingReader};
use super::error::{Context, Error};
use super::index::ingest_path;
use super::unpack;

/// A layer that no image has is kept this long: the pull it came with may be tried again.
const KEEP_UNUSED: Duration = Duration::from_secs(24 * 3600);

/// The directory of layers.
#[derive(Debug)]
pub(super) struct Layers {
    root: PathBuf,
    /// Held while a layer is made, so that it is fetched and unpacked once.
    pub locks: Locks,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Bytes of each layer.
    sizes: HashMap<String, u64>,
    /// How many pulls need a layer.
    pins: HashMap<String, usize>,
}

/// Layers that are not removed while this exists.
#[derive(Debug)]
pub(super) struct Pins {
    chains: Vec<String>,
    known: Arc<Mutex<Known>>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut known = self.known.lock();
        for chain in &self.chains {
            if let Some(count) = known.pins.get_mut(chain) {
                *count -= 1;
            }
        }
        known.pins.retain(|_, count| *count > 0);
    }
}

impl Layers {
    /// Finds the layers below `root`; removes old ones that are not in `used`.
    pub(super) fn open(root: &Path, used: &HashSet<String>) -> Result<Self, Error> {
        let layers = Self { root: root.to_owned(), locks: Locks::default(), known: Arc::default() };
        let dir = root.join("layers");
        for entry in fs::read_dir(&dir).on(&dir)? {
            let entry = entry.on(&dir)?;
            let chain = format!("sha256:{}", entry.file_name().to_string_lossy());
            let changed = entry.metadata().and_then(|m| m.modified()).on(&dir)?;
            let age = SystemTime::now().duration_since(changed).unwrap_or_default();
            let size = fs::read_to_string(entry.path().join("size"));
            match size.ok().and_then(|text| text.trim().parse().ok()) {
                Some(size) if used.contains(&chain) || age < KEEP_UNUSED => {
                    layers.known.lock().sizes.insert(chain, size);
                }
                _ => layers.discard(&entry.path())?,
            }
        }
        Ok(layers)
    }

    /// The directory of a layer's files.
    pub(super) fn path(&self, chain: &str) -> PathBuf {
        self.dir(chain).join("fs")
    }

    fn dir(&self, chain: &str) -> PathBuf {
        self.root.join("layers").join(chain.strip_prefix("sha256:").unwrap_or(chain))
    }

    pub(super) fn exists(&self, chain: &str) -> bool {
        self.known.lock().sizes.contains_key(chain)
    }

    /// Keeps these layers, made already or not.
    pub(super) fn pin(&self, chains: &[String]) -> Pins {
        let mut known = self.known.lock();
        for chain in chains {
            *known.pins.entry(chain.clone()).or_default() += 1;
        }
        Pins { chains: chains.to_vec(), known: Arc::clone(&self.known) }
    }

    /// Makes the layer `chain` from a tar archive, compressed or not, whose uncompressed bytes must
    /// have the digest `diff_id`. `below` are the chains under it, lowest first, which are there.
    pub(super) fn make(
        &self,
        chain: &str,
        diff_id: &str,
        below: &[String],
        archive: impl Read,
    ) -> Result<(), Error> {
        let lower: Vec<PathBuf> = below.iter().rev().map(|chain| self.path(chain)).collect();
        self.make_with(chain, |target| {
            let mut reader = HashingReader::new(compression::open(archive).on(target)?);
            let size = unpack::unpack(&mut reader, target, &lower)?;
            let found = reader.finish().on(target)?;
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
        let staging = ingest_path(&self.root);
        let target = staging.join("fs");
        let make = || {
            fs::create_dir_all(&target).on(&target)?;
            let size = fill(&target)?;
            fs::write(staging.join("size"), size.to_string()).on(&staging)?;
            self.commit(&staging, chain, size)
        };
        make().inspect_err(|_: &Error| drop(fs::remove_dir_all(&staging)))
    }

    /// Syncs what was unpacked and gives it its name, unless another was quicker.
    fn commit(&self, staging: &Path, chain: &str, size: u64) -> Result<(), Error> {
        let dir = fs::File::open(staging).on(staging)?;
        // One sync for thousands of files.
        nix::unistd::syncfs(dir.as_raw_fd()).on(staging)?;
        let mut known = self.known.lock();
        if known.sizes.contains_key(chain) {
            return self.discard(staging);
        }
        let target = self.dir(chain);
        fs::rename(staging, &target).on(&target)?;
        let parent = self.root.join("layers");
        fs::File::open(&parent).and_then(|d| d.sync_all()).on(&parent)?;
        known.sizes.insert(chain.to_owned(), size);
        Ok(())
    }

    /// Removes all layers that are neither in `used` nor pinned.
    pub(super) fn remove_except(&self, used: &HashSet<String>) -> Result<(), Error> {
        let unused: Vec<PathBuf> = {
            let mut known = self.known.lock();
            let Known { sizes, pins } = &mut *known;
            let unused = sizes.keys().filter(|c| !used.contains(*c) && !pins.contains_key(*c));
            let unused: Vec<String> = unused.cloned().collect();
            let moved = unused.iter().map(|chain| {
                // Under the lock it only loses its name: nobody finds it half removed.
                let trash = ingest_path(&self.root);
                fs::rename(self.dir(chain), &trash).on(&trash)?;
                sizes.remove(chain);
                Ok(trash)
            });
            moved.collect::<Result<_, Error>>()?
        };
        unused.iter().try_for_each(|path| self.discard(path))
    }

    fn discard(&self, path: &Path) -> Result<(), Error> {
        fs::remove_dir_all(path).on(path)
    }

    /// Bytes of all layers.
    pub(super) fn used_bytes(&self) -> u64 {
        self.known.lock().sizes.values().sum()
    }

    /// Bytes of these layers.
    pub(super) fn size_of(&self, chains: &[String]) -> u64 {
        let known = self.known.lock();
        chains.iter().filter_map(|chain| known.sizes.get(chain)).sum()
    }
}
