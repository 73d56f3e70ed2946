//! Which images there are: `index.json`.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::error::{Context, Error};
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
        write_atomically(root, &path, &bytes)
    }

    /// The id of the image with this name, or with this id.
    pub(super) fn find(&self, name: &str) -> Option<String> {
        let id = super::with_algorithm(name);
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

    /// The layers of all images.
    pub(super) fn layers(&self) -> HashSet<String> {
        self.images.values().flat_map(|record| record.layers.iter().cloned()).collect()
    }
}

pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |d| d.as_millis() as u64)
}

/// A name in `ingest/` that nobody has.
pub(super) fn ingest_path(root: &Path) -> std::path::PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    root.join("ingest").join(format!("{}-{number}", std::process::id()))
}

/// Writes a file that is whole or not there, whatever happens.
pub(super) fn write_atomically(root: &Path, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = ingest_path(root);
    let write = || {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(path.parent().unwrap_or(root))?.sync_all()
    };
    write().on(path).inspect_err(|_| drop(fs::remove_file(&temporary)))
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
