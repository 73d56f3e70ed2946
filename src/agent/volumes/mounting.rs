//! Mounts in the agent's own mount namespace.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::agent::error::Error;

/// Mounts a tmpfs of at most `size` bytes, unless one is there.
pub(super) fn tmpfs(path: &Path, size: Option<u64>) -> Result<(), Error> {
    if is_mount_point(path) {
        return Ok(());
    }
    let options = match size {
        Some(size) => format!("size={size},mode=0777"),
        None => "mode=0777".to_owned(),
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|e| Error::io("mount a tmpfs at", path)(e.into()))
}

/// Something is mounted exactly there.
pub(super) fn is_mount_point(path: &Path) -> bool {
    let Ok(real) = path.canonicalize() else { return false };
    mount_points().is_ok_and(|all| all.contains(&real))
}

/// Unmounts everything at and below `directory`, the innermost first.
pub(super) fn unmount_below(directory: &Path) -> Result<(), Error> {
    let Ok(real) = directory.canonicalize() else { return Ok(()) };
    let mut points: Vec<PathBuf> = mount_points()?.into_iter().filter(|p| p.starts_with(&real)).collect();
    // Later mounts cover earlier ones.
    points.reverse();
    for point in points {
        match umount2(&point, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(error) => return Err(Error::io("unmount", &point)(error.into())),
        }
    }
    Ok(())
}

fn mount_points() -> Result<Vec<PathBuf>, Error> {
    let path = Path::new("/proc/self/mountinfo");
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    Ok(text.split(|b| *b == b'\n').filter_map(mount_point).collect())
}

/// The fifth field of a line of mountinfo, its octal escapes undone (`proc_pid_mountinfo(5)`).
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let field = line.split(|b| *b == b' ').nth(4)?;
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
    fn mount_points_are_read_with_their_escapes() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from("/mnt 2")));
        assert_eq!(mount_point(b""), None);
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(Path::new("/etc/hostname")));
    }

    #[test]
    fn a_tmpfs_comes_once_and_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("a");
        std::fs::create_dir(&inner).expect("made");
        if tmpfs(&inner, Some(1 << 20)).is_err() {
            return; // Not root: nothing to test here.
        }
        tmpfs(&inner, Some(1 << 20)).expect("again");
        assert!(is_mount_point(&inner));
        unmount_below(directory.path()).expect("unmounted");
        assert!(!is_mount_point(&inner));
    }
}
