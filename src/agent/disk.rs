//! What pods use on the node's disk, and what is left on it.
//!
//! Counted as `du -x` counts: blocks of 512 bytes, a file with several names once, nothing of another
//! file system. Directories are opened one below the other without following symbolic links, so that
//! a container that moves its files about while they are counted leads nobody elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use k8s_openapi::api::core::v1::Pod;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, Stat, openat, openat2, statat};

use super::context::Context;
use super::labels;
use super::spec::{all_containers, uid};
use crate::runtime::Runtime;

/// Longest path from an open directory to one that is opened next; below it another one is kept open.
const LONGEST: usize = 2048;
/// So many directories are kept open at most: nobody nests deeper with honest intentions.
const KEPT: usize = 256;

/// Space and files in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes allocated on disk.
    pub bytes: u64,
    /// Files, directories and all else that has an inode.
    pub inodes: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let mut total = Self::default();
        all.for_each(|usage| total += usage);
        total
    }
}

/// What one container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerDisk {
    /// Writable layers of all its attempts that are still there.
    pub rootfs: Usage,
    /// Its log files, rotated ones included.
    pub logs: Usage,
}

impl ContainerDisk {
    /// Both together.
    pub(crate) fn total(&self) -> Usage {
        [self.rootfs, self.logs].into_iter().sum()
    }
}

/// What one pod uses, by names of its specification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodDisk {
    /// Init and ephemeral containers included.
    pub containers: BTreeMap<String, ContainerDisk>,
    /// Volumes that lie in the pod's own directory: all but host paths and claims. Those on a file
    /// system of their own (emptyDir in memory, secrets) are here too.
    pub volumes: BTreeMap<String, Usage>,
    /// The files kubelet manages for the pod, such as `/etc/hosts`.
    pub managed: Usage,
}

/// A file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FsStats {
    /// Bytes.
    pub capacity: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that unprivileged processes can still have.
    pub available: u64,
    /// Inodes; 0 where there is no limit.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
    /// Tells file systems apart, as `st_dev` does.
    pub device: u64,
}

impl FsStats {
    /// Inodes in use.
    pub(crate) fn inodes_used(&self) -> u64 {
        self.inodes.saturating_sub(self.inodes_free)
    }
}

/// The file system that holds `path`.
///
/// # Errors
/// There is no such path.
pub(crate) fn filesystem(path: &Path) -> io::Result<FsStats> {
    let stat = rustix::fs::statvfs(path)?;
    let size = stat.f_frsize;
    Ok(FsStats {
        capacity: stat.f_blocks * size,
        used: stat.f_blocks.saturating_sub(stat.f_bfree) * size,
        available: stat.f_bavail * size,
        inodes: stat.f_files,
        inodes_free: stat.f_ffree,
        device: rustix::fs::stat(path)?.st_dev,
    })
}

/// What a pod uses now. Walks its directories, on a thread that may block.
pub(crate) async fn usage(context: &Context, pod: &Pod) -> PodDisk {
    let places = Places::of(context, pod).await;
    // Only a panic, or a runtime that is shutting down, keeps it from answering.
    tokio::task::spawn_blocking(move || places.measure()).await.unwrap_or_default()
}

/// Where a pod's files are.
#[derive(Debug, Default)]
struct Places {
    /// By container name: writable layers, log directory.
    containers: BTreeMap<String, (Vec<PathBuf>, PathBuf)>,
    volumes: BTreeMap<String, PathBuf>,
    managed: Vec<PathBuf>,
}

impl Places {
    async fn of(context: &Context, pod: &Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let logs = context.paths.pod_logs(pod);
        let mut places = Self::default();
        for container in all_containers(&spec) {
            let place = (Vec::new(), logs.join(&container.name));
            places.containers.insert(container.name, place);
        }
        places.layers(&context.runtime, uid(pod)).await;
        for volume in spec.volumes.iter().flatten() {
            if let Some(path) = volume_directory(context, uid(pod), &volume.name) {
                places.volumes.insert(volume.name.clone(), path);
            }
        }
        let directory = context.paths.pod(uid(pod));
        places.managed = vec![
            context.paths.hosts(uid(pod)),
            context.paths.resolv_conf(uid(pod)),
            directory.join("hostname"),
        ];
        places
    }

    /// The writable layers of the pod's containers, ended ones included.
    async fn layers(&mut self, runtime: &Runtime, uid: &str) {
        for sandbox in labels::sandboxes_of(runtime, uid).await {
            for container in sandbox.containers {
                let name = container.labels.get(labels::CONTAINER_NAME);
                if let Some(place) = name.and_then(|n| self.containers.get_mut(n)) {
                    place.0.push(runtime.writable_layer(&container.id));
                }
            }
        }
    }

    fn measure(self) -> PodDisk {
        let container = |(layers, logs): (Vec<PathBuf>, PathBuf)| ContainerDisk {
            rootfs: layers.iter().map(|l| tree(l)).sum(),
            logs: tree(&logs),
        };
        PodDisk {
            containers: self.containers.into_iter().map(|(name, p)| (name, container(p))).collect(),
            volumes: self.volumes.into_iter().map(|(name, path)| (name, tree(&path))).collect(),
            managed: self.managed.iter().map(|p| tree(p)).sum(),
        }
    }
}

/// The directory of a volume below the pod's own, whatever kind of volume it is.
pub(crate) fn volume_directory(context: &Context, uid: &str, volume: &str) -> Option<PathBuf> {
    let plugins = std::fs::read_dir(context.paths.pod(uid).join("volumes")).ok()?;
    plugins.flatten().map(|plugin| plugin.path().join(volume)).find(|path| path.is_dir())
}

/// What a file, or a directory with all that is in it, uses. Nothing if it is not there; files that
/// vanish meanwhile are not counted.
pub(crate) fn tree(path: &Path) -> Usage {
    let Ok(root) = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) else { return Usage::default() };
    let mut walk = Walk { device: root.st_dev, ..Walk::default() };
    walk.count(&root);
    if rustix::fs::FileType::from_raw_mode(root.st_mode).is_dir()
        && let Ok(fd) = openat(CWD, path, DIRECTORY, Mode::empty())
    {
        let fd = Rc::new(fd);
        walk.directory(&fd, &fd, Path::new(""), 0);
        while let Some((base, relative, kept)) = walk.pending.pop() {
            walk.descend(&base, &relative, kept);
        }
    }
    walk.usage
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[derive(Default)]
struct Walk {
    device: u64,
    usage: Usage,
    /// Inodes with several names that were counted.
    seen: BTreeSet<u64>,
    /// Directories to be read: an open one, the path from there, and how many are open above.
    pending: Vec<(Rc<OwnedFd>, PathBuf, usize)>,
}

impl Walk {
    fn count(&mut self, stat: &Stat) {
        let directory = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
        if !directory && stat.st_nlink > 1 && !self.seen.insert(stat.st_ino) {
            return;
        }
        self.usage += Usage { bytes: u64::try_from(stat.st_blocks).unwrap_or(0) * 512, inodes: 1 };
    }

    fn descend(&mut self, base: &Rc<OwnedFd>, relative: &Path, kept: usize) {
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
        let Ok(fd) = openat2(base.as_fd(), relative, DIRECTORY, Mode::empty(), resolve) else { return };
        if relative.as_os_str().len() < LONGEST {
            self.directory(&fd, base, relative, kept);
        } else if kept < KEPT {
            let fd = Rc::new(fd);
            self.directory(&fd, &fd, Path::new(""), kept + 1);
        }
    }

    /// Counts what is in `fd`, which is `relative` to `base`, and notes the directories in it.
    fn directory(&mut self, fd: &OwnedFd, base: &Rc<OwnedFd>, relative: &Path, kept: usize) {
        let Ok(entries) = Dir::read_from(fd) else { return };
        for entry in entries.flatten() {
            let name: &CStr = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if stat.st_dev != self.device {
                continue;
            }
            self.count(&stat);
            if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
                use std::os::unix::ffi::OsStrExt;
                let name = std::ffi::OsStr::from_bytes(name.to_bytes());
                self.pending.push((Rc::clone(base), relative.join(name), kept));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn directory() -> tempfile::TempDir {
        // Not tmpfs-specific: every file system rounds up to its blocks.
        tempfile::tempdir().expect("a directory")
    }

    #[test]
    fn blocks_are_counted_and_a_file_with_two_names_once() {
        let dir = directory();
        let empty = tree(dir.path());
        assert_eq!(empty.inodes, 1);
        fs::write(dir.path().join("a"), vec![1; 100_000]).expect("written");
        fs::File::open(dir.path().join("a")).and_then(|f| f.sync_all()).expect("on disk");
        let one = tree(dir.path());
        assert!(one.bytes - empty.bytes >= 100_000, "{one:?}");
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).expect("linked");
        assert_eq!(tree(dir.path()), one);
        let sparse = fs::File::create(dir.path().join("sparse")).expect("made");
        sparse.set_len(1 << 30).expect("grown");
        assert!(tree(dir.path()).bytes < one.bytes + (1 << 20), "holes take no space");
        assert_eq!(tree(&dir.path().join("none")), Usage::default());
        assert_eq!(tree(&dir.path().join("sparse")).inodes, 1);
    }

    #[test]
    fn symbolic_links_are_not_followed() {
        let dir = directory();
        let target = directory();
        fs::write(target.path().join("big"), vec![1; 1 << 20]).expect("written");
        std::os::unix::fs::symlink(target.path(), dir.path().join("link")).expect("linked");
        assert_eq!(tree(dir.path()).inodes, 2);
        assert_eq!(tree(&dir.path().join("link")).inodes, 1);
    }

    #[test]
    fn trees_deeper_than_any_path_are_counted_whole() {
        let dir = directory();
        let name = "d".repeat(200);
        let mut fd = openat(CWD, dir.path(), DIRECTORY, Mode::empty()).expect("opened");
        for _ in 0..60 {
            rustix::fs::mkdirat(&fd, name.as_str(), Mode::RWXU).expect("made");
            fd = openat(&fd, name.as_str(), DIRECTORY, Mode::empty()).expect("opened");
        }
        assert_eq!(tree(dir.path()).inodes, 61);
    }

    #[test]
    fn another_file_system_is_not_counted() {
        let dir = directory();
        let inner = dir.path().join("m");
        fs::create_dir(&inner).expect("made");
        if rustix::mount::mount("tmpfs", &inner, "tmpfs", rustix::mount::MountFlags::empty(), None).is_err() {
            return; // Not root: nothing to test here.
        }
        fs::write(inner.join("f"), vec![1; 1 << 20]).expect("written");
        let (outer, mounted) = (tree(dir.path()), tree(&inner));
        rustix::mount::unmount(&inner, rustix::mount::UnmountFlags::DETACH).expect("unmounted");
        assert_eq!(outer.inodes, 1);
        assert!(mounted.bytes >= 1 << 20 && mounted.inodes == 2, "{mounted:?}");
    }

    #[test]
    fn a_file_system_tells_its_size() {
        let stats = filesystem(Path::new("/")).expect("read");
        assert!(stats.capacity >= stats.available && stats.used <= stats.capacity, "{stats:?}");
        assert!(stats.inodes_used() <= stats.inodes);
        assert!(filesystem(Path::new("/none/such")).is_err());
    }
}
