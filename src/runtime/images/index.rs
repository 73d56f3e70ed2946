//! Which images there are: `index.json`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::error::{Context, Error};
use super::ingest;
use super::name;
use crate::runtime::spec::Image;

/// All images by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    pub images: BTreeMap<String, Record>,
}

/// What is known of an image beside its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub tags: BTreeSet<String>,
    pub digests: BTreeSet<String>,
    /// Chain ids, lowest first.
    pub layers: Vec<String>,
    /// Bytes of all layers.
    pub size: u64,
    pub user: String,
    /// Digest of its manifest; empty if it came without.
    pub manifest: String,
    /// Milliseconds since the epoch.
    pub added: u64,
    /// When a container used it last, the same; 0 if none has.
    #[serde(default)]
    pub used: u64,
    /// Never collected.
    #[serde(default)]
    pub pinned: bool,
}

impl Record {
    pub(super) fn image(&self, id: &str) -> Image {
        Image {
            id: id.to_owned(),
            tags: self.tags.iter().cloned().collect(),
            digests: self.digests.iter().cloned().collect(),
            size: self.size,
            user: self.user.clone(),
        }
    }
}

impl Index {
    /// Reads it. One that cannot be read is set aside: layers stay, so that pulling again is quick.
    pub(super) fn load(root: &Path) -> Result<Self, Error> {
        let path = root.join("index.json");
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            bytes => bytes.on(&path)?,
        };
        match serde_json::from_slice(&bytes) {
            Ok(index) => Ok(index),
            Err(error) => {
                tracing::error!(%error, "{}: damaged; images have to be pulled again", path.display());
                fs::rename(&path, path.with_extension("damaged")).on(&path)?;
                Ok(Self::default())
            }
        }
    }

    pub(super) fn save(&self, root: &Path) -> Result<(), Error> {
        let path = root.join("index.json");
        let bytes = serde_json::to_vec_pretty(self).map_err(|e| Error::io(&path, e.into()))?;
        ingest::write_atomically(root, &path, &bytes)
    }

    /// The id of the image with this name, or with this id.
    pub(super) fn find(&self, name: &str) -> Option<String> {
        let id = with_algorithm(name);
        if self.images.contains_key(&id) {
            return Some(id);
        }
        let reference = name::parse(name).ok()?;
        let tag = name::tagged(&reference);
        let digest = reference.digest().map(|d| name::with_digest(&reference, d));
        let has = |record: &Record| {
            tag.as_ref().is_some_and(|t| record.tags.contains(t))
                || digest.as_ref().is_some_and(|d| record.digests.contains(d))
        };
        self.images.iter().find(|(_, record)| has(record)).map(|(id, _)| id.clone())
    }

    /// Takes a name from an image; with the last tag of a repository go its digests. Answers
    /// whether the image has no name any more.
    pub(super) fn untag(&mut self, id: &str, name: &str) -> bool {
        let (Some(record), Ok(reference)) = (self.images.get_mut(id), name::parse(name)) else { return true };
        if let Some(tag) = name::tagged(&reference) {
            record.tags.remove(&tag);
        }
        if let Some(digest) = reference.digest() {
            record.digests.remove(&name::with_digest(&reference, digest));
        }
        let repository = format!("{}/{}", reference.registry(), reference.repository());
        let same = |tag: &String| tag.strip_prefix(&repository).is_some_and(|rest| rest.starts_with(':'));
        if !record.tags.iter().any(same) {
            record.digests.retain(|d| d.strip_prefix(&repository).is_none_or(|rest| !rest.starts_with('@')));
        }
        record.tags.is_empty() && record.digests.is_empty()
    }

    /// Whether an image would have no name without this one.
    pub(super) fn is_last_name(&self, id: &str, name: &str) -> bool {
        let mut trial = self.clone();
        trial.untag(id, name)
    }

    /// The manifests and configurations of all images.
    pub(super) fn blobs(&self) -> HashSet<String> {
        self.images.iter().flat_map(|(id, record)| [id.clone(), record.manifest.clone()]).collect()
    }

    /// The layers of all images.
    pub(super) fn layers(&self) -> HashSet<String> {
        self.images.values().flat_map(|record| record.layers.iter().cloned()).collect()
    }
}

/// An id in full.
pub(super) fn with_algorithm(id: &str) -> String {
    match id.starts_with("sha256:") {
        true => id.to_owned(),
        false => format!("sha256:{id}"),
    }
}

pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |d| d.as_millis() as u64)
}

/// The index as it lies on disk, read again only when another process has changed it.
#[derive(Debug)]
pub(super) struct Shared {
    root: PathBuf,
    cached: Mutex<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    index: Index,
    /// Which file that was read from.
    stamp: Option<Stamp>,
}

type Stamp = (u64, SystemTime, u64);

impl Shared {
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        let shared = Self { root: root.to_owned(), cached: Mutex::default() };
        shared.refresh(&mut shared.cached.lock())?;
        Ok(shared)
    }

    /// Looks something up. An index that cannot be read now is as it was last.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        let mut cached = self.cached.lock();
        if let Err(error) = self.refresh(&mut cached) {
            tracing::warn!(%error, "the index of images cannot be read");
        }
        look(&cached.index)
    }

    /// Changes it, durably; nothing has changed if `change` fails.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T, Error>) -> Result<T, Error> {
        let mut cached = self.cached.lock();
        let _lock = ingest::change_index(&self.root)?;
        self.refresh(&mut cached)?;
        let mut index = cached.index.clone();
        let result = change(&mut index)?;
        if index != cached.index {
            index.save(&self.root)?;
            cached.index = index;
            cached.stamp = self.stamp();
        }
        Ok(result)
    }

    fn refresh(&self, cached: &mut Cached) -> Result<(), Error> {
        let stamp = self.stamp();
        if stamp != cached.stamp || stamp.is_none() {
            (cached.index, cached.stamp) = (Index::load(&self.root)?, stamp);
        }
        Ok(())
    }

    fn stamp(&self) -> Option<Stamp> {
        let metadata = fs::metadata(self.root.join("index.json")).ok()?;
        Some((metadata.ino(), metadata.modified().ok()?, metadata.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let digest = |c: &str| format!("docker.io/library/nginx@sha256:{}", c.repeat(64));
        let record = Record {
            tags: ["docker.io/library/nginx:1".to_owned(), "ghcr.io/a/b:c".to_owned()].into(),
            digests: [digest("a")].into(),
            layers: vec!["sha256:1".to_owned()],
            ..Record::default()
        };
        Index { images: [("sha256:id".to_owned(), record)].into() }
    }

    #[test]
    fn images_are_found_by_all_their_names() {
        let index = index();
        let digest = format!("nginx@sha256:{}", "a".repeat(64));
        for name in ["nginx:1", "docker.io/library/nginx:1", "ghcr.io/a/b:c", "sha256:id", "id", &digest] {
            assert_eq!(index.find(name).as_deref(), Some("sha256:id"), "{name}");
        }
        for name in ["nginx", "nginx:2", "b:c", ""] {
            assert_eq!(index.find(name), None, "{name}");
        }
    }

    #[test]
    fn with_the_last_tag_of_a_repository_go_its_digests() {
        let mut index = index();
        assert!(!index.untag("sha256:id", "nginx:1"));
        assert!(index.images["sha256:id"].digests.is_empty());
        assert!(index.untag("sha256:id", "ghcr.io/a/b:c"));
    }

    #[test]
    fn changes_of_other_processes_are_seen_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ingest")).unwrap();
        // Two of them know as little of each other as two processes.
        let (one, two) = (Shared::open(dir.path()).unwrap(), Shared::open(dir.path()).unwrap());
        let add = |shared: &Shared, id: &str| {
            shared
                .change(|index| {
                    let _: () = drop(index.images.insert(id.to_owned(), Record::default()));
                    Ok(())
                })
                .unwrap();
        };
        add(&one, "sha256:1");
        add(&two, "sha256:2");
        assert_eq!(one.read(|index| index.images.len()), 2);
        let failed: Result<(), _> = one.change(|index| {
            index.images.clear();
            Err(Error::Unknown("x".to_owned()))
        });
        assert!(failed.is_err());
        assert_eq!(two.read(|index| index.images.len()), 2);
    }

    #[test]
    fn it_is_saved_whole_and_a_damaged_one_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ingest")).unwrap();
        index().save(dir.path()).unwrap();
        assert_eq!(Index::load(dir.path()).unwrap(), index());
        fs::write(dir.path().join("index.json"), "{").unwrap();
        assert_eq!(Index::load(dir.path()).unwrap(), Index::default());
        assert!(dir.path().join("index.damaged").exists());
    }
}
