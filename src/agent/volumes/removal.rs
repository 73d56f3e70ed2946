//! Removing a pod's directory: all of it, whatever its containers left there, and nothing else.
//!
//! The tree is walked by descriptors, so that no symbolic link leads out of it, and a directory on
//! which something is mounted is never entered: a volume that could not be unmounted keeps its content.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, IFlags, Mode, OFlags, RenameFlags, StatxAttributes, StatxFlags,
    ioctl_getflags, ioctl_setflags, openat, renameat_with, statx, unlinkat,
};
use rustix::io::Errno;

use crate::agent::error::Error;

/// Directories deeper than this are moved to the top first: each level costs a descriptor and stack.
const DEPTH: usize = 48;

/// Removes a directory with all that is in it; that there is none is fine.
///
/// # Errors
/// What could not be removed. What is below a mount is left alone.
pub(super) fn remove(directory: &Path) -> Result<(), Error> {
    let fail = |e: Errno| Error::io("remove", directory)(e.into());
    let top = match open_directory(CWD, directory) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return unlinkat(CWD, directory, AtFlags::empty()).map_err(fail);
        }
        Err(error) => return Err(fail(error)),
    };
    refuse_mounted(&top, directory)?;
    let mut walk = Walk { top: &top, directory, moved: 0 };
    // Again while deep directories come up.
    while walk.empty(&top, directory, 0)? {}
    match unlinkat(CWD, directory, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(fail(error)),
    }
}

struct Walk<'a> {
    top: &'a OwnedFd,
    directory: &'a Path,
    moved: usize,
}

impl Walk<'_> {
    /// Removes what is in a directory; whether something was moved to the top instead.
    fn empty(&mut self, fd: &OwnedFd, path: &Path, depth: usize) -> Result<bool, Error> {
        let mut again = false;
        for (name, kind) in names(fd).map_err(|e| Error::io("list", path)(e.into()))? {
            let inner = path.join(to_path(&name));
            if kind == FileType::Directory {
                again |= self.directory(fd, &name, &inner, depth)?;
            } else {
                unlink(fd, &name, AtFlags::empty()).map_err(|e| Error::io("remove", &inner)(e.into()))?;
            }
        }
        Ok(again)
    }

    fn directory(&mut self, fd: &OwnedFd, name: &CStr, path: &Path, depth: usize) -> Result<bool, Error> {
        let fail = |e: Errno| Error::io("remove", path)(e.into());
        if depth >= DEPTH {
            self.moved += 1;
            let place = format!("..removed-{}-{}", std::process::id(), self.moved);
            return match renameat_with(fd, name, self.top, &*place, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(true),
                Err(Errno::XDEV | Errno::BUSY) => Err(mounted(path)),
                Err(error) => Err(Error::io("move away", self.directory.join(place))(error.into())),
            };
        }
        let inner = match open_directory(fd, name) {
            Ok(inner) => inner,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(fail(error)),
        };
        refuse_mounted(&inner, path)?;
        let again = self.empty(&inner, path, depth + 1)?;
        unlink(fd, name, AtFlags::REMOVEDIR).map_err(fail)?;
        Ok(again)
    }
}

/// Removes one entry. An immutable or append-only file, or one in such a directory, is made an ordinary one first.
fn unlink(directory: &OwnedFd, name: &CStr, flags: AtFlags) -> Result<(), Errno> {
    match unlinkat(directory, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::PERM) => {
            let open = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(file) = openat(directory, name, open, Mode::empty()) {
                make_ordinary(&file);
            }
            make_ordinary(directory);
            unlinkat(directory, name, flags)
        }
        result => result,
    }
}

fn make_ordinary(file: &OwnedFd) {
    let fixed = IFlags::IMMUTABLE | IFlags::APPEND;
    // A file system without such flags has no such files either.
    if let Ok(flags) = ioctl_getflags(file)
        && flags.intersects(fixed)
        && let Err(error) = ioctl_setflags(file, flags - fixed)
    {
        tracing::debug!(%error, "a file that cannot be changed stays so");
    }
}

fn refuse_mounted(directory: &OwnedFd, path: &Path) -> Result<(), Error> {
    let found = statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
    let found = found.map_err(|e| Error::io("read", path)(e.into()))?;
    if found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) { Err(mounted(path)) } else { Ok(()) }
}

fn mounted(path: &Path) -> Error {
    Error::Other(format!("{} is not removed: something is mounted there", path.display()))
}

fn open_directory(at: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// What is in a directory. All names are read before the first is removed.
pub(super) fn names(directory: &OwnedFd) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut all = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(found.st_mode)
            }
            known => known,
        };
        all.push((name.to_owned(), kind));
    }
    Ok(all)
}

/// A name as a path.
pub(super) fn to_path(name: &CStr) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(name.to_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_special_files_go_and_their_targets_stay() {
        let outer = tempfile::tempdir().expect("a directory");
        let (victim, target) = (outer.path().join("victim"), outer.path().join("target"));
        fs::create_dir_all(victim.join("a/b")).expect("made");
        fs::create_dir(&target).expect("made");
        fs::write(target.join("f"), "x").expect("written");
        symlink(&target, victim.join("a/link")).expect("linked");
        nix::unistd::mkfifo(&victim.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        for n in 0..2000 {
            fs::write(victim.join(format!("a/b/{n}")), "").expect("written");
        }
        remove(&victim).expect("removed");
        remove(&victim).expect("again");
        assert!(!victim.exists() && target.join("f").exists());
        symlink(&target, &victim).expect("linked");
        remove(&victim).expect("the link goes");
        assert!(fs::symlink_metadata(&victim).is_err() && target.join("f").exists());
    }

    #[test]
    fn depth_is_no_obstacle() {
        let outer = tempfile::tempdir().expect("a directory");
        let victim = outer.path().join("v");
        fs::create_dir(&victim).expect("made");
        let mut fd = open_directory(CWD, &victim).expect("opened");
        // Far deeper than a path can be long or descriptors can be open.
        for _ in 0..3000 {
            rustix::fs::mkdirat(&fd, c"deeper", Mode::from(0o755)).expect("made");
            fd = open_directory(&fd, c"deeper").expect("opened");
        }
        drop(fd);
        remove(&victim).expect("removed");
        assert!(!victim.exists());
    }

    #[test]
    fn what_is_mounted_is_not_touched() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let outer = tempfile::tempdir().expect("a directory");
        let (victim, precious) = (outer.path().join("v"), outer.path().join("precious"));
        fs::create_dir_all(victim.join("volume")).expect("made");
        fs::create_dir(&precious).expect("made");
        fs::write(precious.join("f"), "x").expect("written");
        super::super::mounting::bind(&precious, &victim.join("volume"), None).expect("bound");
        let error = remove(&victim).expect_err("mounted").to_string();
        assert!(error.ends_with("volume is not removed: something is mounted there"), "{error}");
        assert!(precious.join("f").exists());
        super::super::mounting::unmount_below(&victim).expect("unmounted");
        remove(&victim).expect("removed");
        assert!(precious.join("f").exists());
    }

    #[test]
    fn immutable_files_go_too() {
        let outer = tempfile::tempdir().expect("a directory");
        let victim = outer.path().join("v");
        fs::create_dir(&victim).expect("made");
        fs::write(victim.join("f"), "x").expect("written");
        let file: OwnedFd = fs::File::open(victim.join("f")).expect("opened").into();
        // Not every file system has the flag, and only root may set it.
        let _ = ioctl_getflags(&file).and_then(|flags| ioctl_setflags(&file, flags | IFlags::IMMUTABLE));
        remove(&victim).expect("removed");
        assert!(!victim.exists());
    }
}
