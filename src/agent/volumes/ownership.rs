//! `fsGroup`: the files of a volume belong to a group and are open to it ("Configure volume permission
//! and ownership change policy for Pods").

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, chmodat, chownat, fstat, openat};
use rustix::io::Errno;

use super::removal;
use crate::agent::error::Error;

const READ_WRITE: u32 = 0o660;
const READ_ONLY: u32 = 0o440;
const SEARCH: u32 = 0o110;
const SET_GROUP: u32 = 0o2000;

/// Who a volume's files are given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// `fsGroup`.
    pub id: u32,
    /// `fsGroupChangePolicy: OnRootMismatch`: nothing is done if the volume's root is right already.
    pub on_root_mismatch: bool,
    /// The volume is only read: the group gets no right to write.
    pub read_only: bool,
}

impl Group {
    /// The permissions that a file gets at least.
    fn permissions(self, directory: bool) -> u32 {
        let files = if self.read_only { READ_ONLY } else { READ_WRITE };
        if directory { files | SEARCH | SET_GROUP } else { files }
    }

    fn root_is_right(self, root: &OwnedFd) -> Result<bool, Errno> {
        let found = fstat(root)?;
        let directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        let wanted = self.permissions(true);
        Ok(directory && found.st_gid == self.id && found.st_mode & wanted == wanted)
    }

    /// Gives all files below `root` to the group. A file that cannot be changed is told of and passed over.
    ///
    /// # Errors
    /// The root cannot be read.
    pub(super) fn own(self, root: &Path) -> Result<(), Error> {
        let fail = |e: Errno| Error::io("change the group of", root)(e.into());
        let fd = openat(CWD, root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
        if self.on_root_mismatch && self.root_is_right(&fd).map_err(fail)? {
            return Ok(());
        }
        let mut failed = None;
        self.change(&fd, root, &mut failed);
        if let Some(error) = failed {
            tracing::warn!(%error, volume = %root.display(), "not all files of a volume could be given to its fsGroup");
        }
        Ok(())
    }

    /// Changes a file, and what is in it if it is a directory. Everything is done by descriptor: whoever
    /// shares the volume cannot put a link in the way.
    fn change(self, file: &OwnedFd, path: &Path, failed: &mut Option<Error>) {
        let mut note = |result: Result<(), Errno>, what: &'static str, path: &Path| {
            if let Err(error) = result
                && error != Errno::NOENT
            {
                failed.get_or_insert_with(|| Error::io(what, path)(error.into()));
            }
        };
        let group = Some(Gid::from_raw(self.id));
        note(chownat(file, c"", None, group, AtFlags::EMPTY_PATH), "change the group of", path);
        let Ok(found) = fstat(file) else { return };
        let kind = FileType::from_raw_mode(found.st_mode);
        if kind == FileType::Symlink {
            return;
        }
        let directory = kind == FileType::Directory;
        let mode = found.st_mode & 0o7777 | self.permissions(directory);
        if mode != found.st_mode & 0o7777 {
            let name = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
            note(chmodat(CWD, name, Mode::from(mode), AtFlags::empty()), "change", path);
        }
        if !directory {
            return;
        }
        let list = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let entries = openat(file, c".", list, Mode::empty()).and_then(|d| removal::names(&d));
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return note(Err(error), "list", path),
        };
        for (name, _) in entries {
            let path = path.join(removal::to_path(&name));
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(file, &name, flags, Mode::empty()) {
                Ok(inner) => self.change(&inner, &path, failed),
                Err(Errno::NOENT) => {}
                Err(error) => {
                    failed.get_or_insert_with(|| Error::io("open", &path)(error.into()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn state(path: &Path) -> (u32, u32) {
        let meta = fs::symlink_metadata(path).expect("there");
        (meta.mode() & 0o7777, meta.gid())
    }

    #[test]
    fn upstreams_masks() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let outer = tempfile::tempdir().expect("a directory");
        let (root, away) = (outer.path().join("v"), outer.path().join("away"));
        fs::create_dir_all(root.join("d")).expect("made");
        for (path, mode) in [(root.join("d/f"), 0o600), (root.join("run"), 0o711), (away.clone(), 0o600)] {
            fs::write(&path, "").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
        }
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("changed");
        fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o700)).expect("changed");
        symlink(&away, root.join("link")).expect("linked");
        let before = state(&away);
        let mut group = Group { id: 4321, on_root_mismatch: false, read_only: true };
        group.own(&root).expect("given");
        assert_eq!(state(&root), (0o2755, 4321));
        assert_eq!(state(&root.join("d")), (0o2750, 4321));
        assert_eq!(state(&root.join("d/f")), (0o640, 4321));
        group.read_only = false;
        group.own(&root).expect("given");
        assert_eq!(state(&root), (0o2775, 4321));
        assert_eq!(state(&root.join("d/f")), (0o660, 4321));
        assert_eq!(state(&root.join("run")), (0o771, 4321));
        assert_eq!((state(&root.join("link")).1, state(&away)), (4321, before), "the link, not its target");
    }

    #[test]
    fn a_right_root_saves_the_walk_if_the_policy_says_so() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let outer = tempfile::tempdir().expect("a directory");
        let (root, file) = (outer.path().join("v"), outer.path().join("v/f"));
        fs::create_dir(&root).expect("made");
        let group = Group { id: 4321, on_root_mismatch: true, read_only: false };
        fs::write(&file, "").expect("written");
        group.own(&root).expect("given");
        assert_eq!(state(&file).1, 4321, "the root was not right");
        rustix::fs::chown(&file, None, Some(Gid::from_raw(1))).expect("changed");
        group.own(&root).expect("given");
        assert_eq!(state(&file).1, 1, "the root is right");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o2755)).expect("changed");
        group.own(&root).expect("given");
        assert_eq!(state(&file).1, 4321, "the group could not write");
        rustix::fs::chown(&file, None, Some(Gid::from_raw(1))).expect("changed");
        Group { on_root_mismatch: false, ..group }.own(&root).expect("given");
        assert_eq!(state(&file).1, 4321, "always is always");
    }
}
