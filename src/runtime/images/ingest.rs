//! What is on its way into the store, and the locks by which several processes share it: the
//! server, and commands that import or list images meanwhile.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::{Context, Error};

/// A layer that no image has, and a blob that did not come whole, are kept this long at a start: the pull
/// they came with may be tried again.
pub(super) const KEEP_UNUSED: Duration = Duration::from_secs(24 * 3600);

const PARTIAL: &str = "partial-";

/// While it lives, no process removes a layer.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not used")] Flock<fs::File>);

/// A name in `ingest/` that nobody has: it begins with the pid of its owner.
pub(super) fn path(root: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    root.join("ingest").join(format!("{}-{number}", std::process::id()))
}

/// Where a blob lies while it is downloaded, also after a restart.
pub(super) fn partial(root: &Path, digest: &str) -> PathBuf {
    root.join("ingest").join(format!("{PARTIAL}{}", digest.trim_start_matches("sha256:")))
}

/// Removes what processes that have ended left behind, and blobs that nobody asked for again.
pub(super) fn clean(root: &Path) -> Result<(), Error> {
    let dir = root.join("ingest");
    for entry in fs::read_dir(&dir).on(&dir)? {
        let entry = entry.on(&dir)?;
        let path = entry.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with(PARTIAL) {
            let age = entry.metadata().and_then(|m| m.modified()).map(|m| m.elapsed().unwrap_or_default());
            if age.on(&path)? > KEEP_UNUSED {
                remove(&path)?;
            }
            continue;
        }
        let pid = name.split('-').next().unwrap_or_default();
        if pid.is_empty() || !Path::new("/proc").join(pid).exists() {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file or a directory.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    match path.is_dir() {
        true => fs::remove_dir_all(path).on(path),
        false => fs::remove_file(path).on(path),
    }
}

/// Keeps all layers where they are: for who is about to need some that no image has yet.
pub(super) fn keep_layers(root: &Path) -> Result<Lock, Error> {
    lock(root, "layers.lock", FlockArg::LockShared).and_then(|lock| lock.ok_or_else(|| unreachable(root)))
}

/// The right to remove layers; `None` while somebody keeps them.
pub(super) fn remove_layers(root: &Path) -> Result<Option<Lock>, Error> {
    lock(root, "layers.lock", FlockArg::LockExclusiveNonblock)
}

/// The right to change the index.
pub(super) fn change_index(root: &Path) -> Result<Lock, Error> {
    lock(root, "index.lock", FlockArg::LockExclusive).and_then(|lock| lock.ok_or_else(|| unreachable(root)))
}

fn unreachable(root: &Path) -> Error {
    Error::io(root, Errno::EWOULDBLOCK.into())
}

fn lock(root: &Path, name: &str, how: FlockArg) -> Result<Option<Lock>, Error> {
    let path = root.join(name);
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path).on(&path)?;
    match Flock::lock(file, how) {
        Ok(lock) => Ok(Some(Lock(lock))),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(Error::io(&path, errno.into())),
    }
}

/// Writes a file that is whole or not there, whatever happens.
pub(super) fn write_atomically(root: &Path, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = self::path(root);
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

    #[test]
    fn layers_are_kept_by_many_and_removed_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let keepers = [keep_layers(dir.path()).unwrap(), keep_layers(dir.path()).unwrap()];
        assert!(remove_layers(dir.path()).unwrap().is_none());
        drop(keepers);
        assert!(remove_layers(dir.path()).unwrap().is_some());
    }

    #[test]
    fn only_what_nobody_needs_is_cleaned() {
        let dir = tempfile::tempdir().unwrap();
        let ingest = dir.path().join("ingest");
        let ours = format!("{}-5", std::process::id());
        for name in ["1-0", "999999999-0", "strange", &ours] {
            fs::create_dir_all(ingest.join(name).join("fs")).unwrap();
        }
        let left = || {
            let names = fs::read_dir(&ingest).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        };
        let (old, new) = (ingest.join("partial-a"), ingest.join("partial-b"));
        fs::write(&new, "some").unwrap();
        let long_ago = std::time::SystemTime::now() - 2 * KEEP_UNUSED;
        fs::File::create(&old).unwrap().set_modified(long_ago).unwrap();
        clean(dir.path()).unwrap();
        assert_eq!(left(), ["1-0", ours.as_str(), "partial-b"], "processes that live keep theirs");
    }
}
