//! Files of a container's root file system, opened from outside without ever leaving it: symbolic
//! links are resolved as inside the container (`openat2(2)` with `RESOLVE_IN_ROOT`).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};

use crate::runtime::sys;

/// A directory that is somebody's `/`.
pub struct InRoot(File);

impl InRoot {
    /// Opens the directory.
    pub fn open(root: &Path) -> io::Result<Self> {
        File::open(root).map(Self)
    }

    /// Opens a file, or makes it if the flags say so.
    pub fn open_at(&self, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
        let mode =
            if flags.contains(OFlag::O_CREAT) { Mode::from_bits_truncate(0o644) } else { Mode::empty() };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .mode(mode)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        Ok(sys::own(openat2(self.0.as_raw_fd(), path, how)?))
    }

    /// The text of a file, at most `limit` bytes of it; `None` if there is no such regular file.
    pub fn read(&self, path: &str, limit: u64) -> Option<String> {
        let file = File::from(self.open_at(Path::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK).ok()?);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Where a directory is, without links: seen from outside.
    pub fn place(&self, path: &Path) -> io::Result<PathBuf> {
        let dir = self.open_at(path, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()))
    }

    /// Makes a directory and its parents, where they are missing.
    pub fn make_dirs(&self, path: &Path) -> io::Result<()> {
        let mut parent = PathBuf::from("/");
        for part in path.components() {
            let Component::Normal(name) = part else {
                continue;
            };
            let full = parent.join(name);
            match self.open_at(&full, OFlag::O_PATH | OFlag::O_DIRECTORY) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    let dir = self.open_at(&parent, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
                    let mode = Mode::from_bits_truncate(0o755);
                    match mkdirat(Some(dir.as_raw_fd()), name, mode) {
                        Ok(()) | Err(Errno::EEXIST) => {}
                        Err(e) => return Err(e.into()),
                    }
                }
                other => drop(other?),
            }
            parent = full;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_do_not_lead_out() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "host").unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink("../../secret", root.join("etc/passwd")).unwrap();
        symlink("/real", root.join("etc/group")).unwrap();
        fs::write(root.join("real"), "inside").unwrap();
        let root = InRoot::open(&root).unwrap();
        assert_eq!(root.read("etc/passwd", 100), None);
        assert_eq!(root.read("etc/group", 100).as_deref(), Some("inside"));
        assert_eq!(root.read("etc", 100), None);
    }

    #[test]
    fn directories_are_made_inside() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(&root).unwrap();
        symlink("/elsewhere", root.join("srv")).unwrap();
        fs::create_dir(root.join("elsewhere")).unwrap();
        let dir = InRoot::open(&root).unwrap();
        dir.make_dirs(Path::new("/srv/a/b")).unwrap();
        dir.make_dirs(Path::new("/srv/a/b")).unwrap();
        assert!(root.join("elsewhere/a/b").is_dir());
        let place = dir.place(Path::new("/srv/a/b")).unwrap();
        assert_eq!(place, root.canonicalize().unwrap().join("elsewhere/a/b"));
        fs::write(root.join("file"), "").unwrap();
        assert!(dir.make_dirs(Path::new("/file/x")).is_err());
    }
}
