//! Mounts in the agent's own mount namespace.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{AtFlags, CWD, Statx, StatxAttributes, StatxFlags, statx};

use crate::agent::error::Error;
use crate::runtime::spec::Propagation;

/// Mounts may be added below while others are taken away: after so many rounds somebody is at it.
const ROUNDS: usize = 8;

/// A file system in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tmpfs {
    /// Bytes it may hold; without, half of the machine's memory.
    pub size: Option<u64>,
    /// Group of its root, which then is setgid.
    pub group: Option<u32>,
}

/// Mounts a tmpfs anyone may write, unless one is there. Where the kernel can, it is not swapped out
/// (`noswap`, since 6.4): what is secret stays off the disk.
pub(super) fn tmpfs(path: &Path, wanted: Tmpfs) -> Result<(), Error> {
    if is_mount_point(path) {
        return Ok(());
    }
    let mut options = match wanted.group {
        Some(group) => format!("mode=3777,gid={group}"),
        None => "mode=1777".to_owned(),
    };
    if let Some(size) = wanted.size {
        options += &format!(",size={size}");
    }
    let mount = |options: &str| mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options));
    match mount(&format!("{options},noswap")) {
        Err(Errno::EINVAL) => mount(&options),
        result => result,
    }
    .map_err(|e| Error::io("mount a tmpfs at", path)(e.into()))
}

/// Mounts huge pages of one size.
pub(super) fn huge_pages(path: &Path, page: u64, wanted: Tmpfs) -> Result<(), Error> {
    if is_mount_point(path) {
        return Ok(());
    }
    let (mode, group) = if wanted.group.is_some() { ("2777", wanted.group) } else { ("777", None) };
    let mut options = format!("pagesize={page},mode={mode}");
    options += &group.map(|g| format!(",gid={g}")).unwrap_or_default();
    options += &wanted.size.map(|s| format!(",size={s}")).unwrap_or_default();
    mount(Some("nodev"), path, Some("hugetlbfs"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|e| Error::io("mount huge pages at", path)(e.into()))
}

fn look(path: &Path) -> Option<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(CWD, path, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID).ok()
}

/// Something is mounted exactly there.
pub(super) fn is_mount_point(path: &Path) -> bool {
    look(path).is_some_and(|s| s.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Unmounts everything at and below `directory`, the innermost first. A busy mount is detached: it
/// vanishes from here at once, and for good when its last user ends.
pub(super) fn unmount_below(directory: &Path) -> Result<(), Error> {
    let Ok(real) = directory.canonicalize() else { return Ok(()) };
    for _ in 0..ROUNDS {
        let mut points: Vec<PathBuf> =
            mounts()?.into_iter().map(|m| m.point).filter(|p| p.starts_with(&real)).collect();
        if points.is_empty() {
            return Ok(());
        }
        // Later mounts cover earlier ones.
        points.reverse();
        for point in points {
            match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(error) => return Err(Error::io("unmount", &point)(error.into())),
            }
        }
    }
    Err(Error::Other(format!("what is mounted below {} comes back when it is unmounted", real.display())))
}

/// Binds what `source` is, with all that is mounted below it, to `place`.
pub(super) fn bind(source: &Path, place: &Path, propagation: Option<Propagation>) -> Result<(), Error> {
    let none = None::<&str>;
    let fail = |e: Errno| Error::io("bind a volume to", place)(e.into());
    mount(Some(source), place, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).map_err(fail)?;
    let flag = match propagation {
        None => return Ok(()),
        Some(Propagation::Private) => MsFlags::MS_PRIVATE,
        Some(Propagation::HostToContainer) => MsFlags::MS_SLAVE,
        Some(Propagation::Bidirectional) => MsFlags::MS_SHARED,
    };
    mount(none, place, none, flag | MsFlags::MS_REC, none).map_err(fail)
}

/// Lets mounts travel into and out of what is below `directory`, as kubelet does for its own: it is made
/// a shared mount of its own, unless it lies on one.
pub(super) fn share(directory: &Path) -> Result<(), Error> {
    if mount_of(directory)?.is_some_and(|m| m.shared) {
        return Ok(());
    }
    if !is_mount_point(directory) {
        bind(directory, directory, None)?;
    }
    let (none, flags) = (None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC);
    mount(none, directory, none, flags, none).map_err(|e| Error::io("share", directory)(e.into()))
}

/// Whether mounts travel from or to what `path` lies on, as `propagation` needs; the text says why not.
pub(crate) fn allows(path: &Path, propagation: Propagation) -> Result<(), String> {
    if propagation == Propagation::Private {
        return Ok(());
    }
    let mount = mount_of(path).map_err(|e| e.to_string())?;
    let Some(mount) = mount else { return Ok(()) };
    let (good, kinds) = match propagation {
        Propagation::Bidirectional => (mount.shared, "shared"),
        _ => (mount.shared || mount.slave, "shared or slave"),
    };
    if good {
        return Ok(());
    }
    let (path, point) = (path.display().to_string(), mount.point.display().to_string());
    Err(format!("path {path:?} is mounted on {point:?} but it is not a {kinds} mount"))
}

/// The mount that a path lies on.
fn mount_of(path: &Path) -> Result<Option<Mounted>, Error> {
    let real = path.canonicalize().map_err(Error::io("find", path))?;
    let Some(id) = look(&real).map(|s| s.stx_mnt_id) else { return Ok(None) };
    Ok(mounts()?.into_iter().find(|m| m.id == id))
}

/// A line of mountinfo.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    id: u64,
    point: PathBuf,
    shared: bool,
    slave: bool,
}

fn mounts() -> Result<Vec<Mounted>, Error> {
    let path = Path::new("/proc/self/mountinfo");
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    Ok(text.split(|b| *b == b'\n').filter_map(mounted).collect())
}

/// Reads one line of mountinfo (`proc_pid_mountinfo(5)`).
fn mounted(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|b| *b == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let point = unescape(fields.nth(3)?)?;
    let optional: Vec<&[u8]> = fields.skip(1).take_while(|f| *f != b"-").collect();
    let has = |name: &[u8]| optional.iter().any(|f| f.starts_with(name));
    Some(Mounted { id, point, shared: has(b"shared:"), slave: has(b"master:") })
}

/// Undoes the octal escapes of mountinfo.
fn unescape(field: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut path = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'\\' {
            let digits: Vec<u8> = bytes.by_ref().take(3).copied().collect();
            path.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 8).ok()?);
        } else {
            path.push(*byte);
        }
    }
    Some(std::ffi::OsString::from_vec(path).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes_and_propagation() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw";
        let expected = Mounted { id: 36, point: PathBuf::from("/mnt 2"), shared: true, slave: true };
        assert_eq!(mounted(line), Some(expected));
        let line = b"36 35 98:0 / /shared: rw - ext3 /dev/root rw";
        assert!(mounted(line).is_some_and(|m| !m.shared && !m.slave));
        assert_eq!(mounted(b""), None);
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(Path::new("/etc/hostname")));
    }

    #[test]
    fn a_tmpfs_comes_once_and_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("a");
        std::fs::create_dir(&inner).expect("made");
        let wanted = Tmpfs { size: Some(1 << 20), group: Some(1234) };
        if !nix::unistd::geteuid().is_root() {
            return; // Nothing to test here.
        }
        tmpfs(&inner, wanted).expect("mounted");
        tmpfs(&inner, wanted).expect("again");
        assert!(is_mount_point(&inner));
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(&inner).expect("there");
        assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o3777, 1234));
        // Busy: a file is open in it.
        let _open = std::fs::File::create(inner.join("f")).expect("made");
        unmount_below(directory.path()).expect("unmounted");
        assert!(!is_mount_point(&inner));
    }

    #[test]
    fn a_shared_directory_allows_both_ways() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::create_dir(&a).expect("made");
        std::fs::create_dir(&b).expect("made");
        share(&a).expect("shared");
        share(&a).expect("again");
        assert_eq!(allows(&a, Propagation::Bidirectional), Ok(()));
        bind(&a, &b, Some(Propagation::Private)).expect("bound");
        let refused = allows(&b, Propagation::HostToContainer).expect_err("private");
        assert!(refused.ends_with("but it is not a shared or slave mount"), "{refused}");
        bind(&a, &b, Some(Propagation::HostToContainer)).expect("bound");
        assert_eq!(allows(&b, Propagation::HostToContainer), Ok(()));
        assert!(allows(&b, Propagation::Bidirectional).is_err());
        unmount_below(directory.path()).expect("unmounted");
    }
}
