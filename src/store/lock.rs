//! Who may use a directory: one process at a time, of a release that knows its format.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::disk::Disk;
use super::error::{Context, Error};

/// The format this release writes.
pub(super) const FORMAT: u32 = 1;

/// The lock on a directory, held until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, not used")] Flock<fs::File>);

impl Lock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).on(&path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let pid = std::process::id();
                if holder(&mut file) != pid {
                    file.set_len(0).and_then(|()| file.rewind()).on(&path)?;
                    writeln!(file, "{pid}").on(&path)?;
                }
                Ok(Self(file))
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                Err(Error::Locked { pid: holder(&mut file), path: dir.to_owned() })
            }
            Err((_, errno)) => Err(Error::io(path, errno.into())),
        }
    }
}

fn holder(file: &mut fs::File) -> u32 {
    let mut text = String::new();
    let read = file.read_to_string(&mut text);
    read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0)
}

/// Whether the directory holds a store already; refuses one of a newer release.
pub(super) fn has_format(disk: &dyn Disk, dir: &Path) -> Result<bool, Error> {
    let path = dir.join("format");
    if !path.exists() {
        return Ok(false);
    }
    let text = disk.read(&path).on(&path)?;
    let text = String::from_utf8_lossy(&text);
    match text.trim().strip_prefix("kedge store ").map(str::parse) {
        Some(Ok(found)) if found > FORMAT => Err(Error::Newer { path, found, supported: FORMAT }),
        Some(Ok(_)) => Ok(true),
        _ => Err(Error::corrupt(path, "it does not name a format")),
    }
}

/// Says that the directory holds a store from now on, durably.
pub(super) fn write_format(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    let (path, temporary) = (dir.join("format"), dir.join("format.tmp"));
    let _ = disk.remove_file(&temporary);
    let mut file = disk.create(&temporary).on(&temporary)?;
    file.write_at(0, format!("kedge store {FORMAT}\n").as_bytes()).on(&temporary)?;
    file.sync_data().on(&temporary)?;
    disk.rename(&temporary, &path).on(&path)?;
    disk.sync_dir(dir).on(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::RealDisk;

    #[test]
    fn the_second_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::take(dir.path()).unwrap();
        let Err(Error::Locked { pid, path }) = Lock::take(dir.path()) else { panic!("two locks") };
        assert_eq!((pid, &*path), (std::process::id(), dir.path()));
        drop(lock);
        Lock::take(dir.path()).unwrap();
    }

    #[test]
    fn newer_and_unreadable_formats_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_format(&RealDisk, dir.path()).unwrap());
        write_format(&RealDisk, dir.path()).unwrap();
        assert!(has_format(&RealDisk, dir.path()).unwrap());
        fs::write(dir.path().join("format"), "kedge store 2\n").unwrap();
        let error = has_format(&RealDisk, dir.path()).unwrap_err();
        assert!(matches!(error, Error::Newer { found: 2, supported: 1, .. }), "{error}");
        fs::write(dir.path().join("format"), "\0\0").unwrap();
        assert!(matches!(has_format(&RealDisk, dir.path()), Err(Error::Corrupt { .. })));
    }
}
