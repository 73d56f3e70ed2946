//! `subPath`: a part of a volume, resolved so that nothing a container does to the volume leads outside.
//!
//! The path is opened with `openat2(2)` and `RESOLVE_BENEATH`, missing directories are made one by one,
//! and what was opened, not its name, is what the container gets.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, chmodat, fstat, mkdirat, openat2};

/// Opens `sub_path` of a volume.
pub(super) fn open(volume: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    Ok(beneath(&root_of(volume, sub_path)?, sub_path)?)
}

/// Opens `sub_path` of a volume, making the directories that are missing. They get the permissions of the
/// volume's root.
pub(super) fn make(volume: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    let root = root_of(volume, sub_path)?;
    let mode = Mode::from(fstat(&root)?.st_mode & 0o2777);
    let mut path = PathBuf::new();
    for component in Path::new(sub_path).components() {
        let parent = if path.as_os_str().is_empty() { root.try_clone()? } else { beneath(&root, &path)? };
        path.push(component);
        match mkdirat(parent.as_fd(), component.as_os_str(), mode) {
            // The umask took some of it.
            Ok(()) => chmod(&beneath(&root, &path)?, mode)?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(beneath(&root, sub_path)?)
}

/// The volume, if `sub_path` does not lead out of it by its own words.
fn root_of(volume: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    let plain =
        Path::new(sub_path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{sub_path:?} leads out of the volume"),
        ));
    }
    Ok(rustix::fs::open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// A name of what a descriptor of this process has open.
pub(super) fn name_of(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn chmod(file: &OwnedFd, mode: Mode) -> rustix::io::Result<()> {
    chmodat(CWD, name_of(file), mode, AtFlags::empty())
}

fn beneath(root: &OwnedFd, path: impl AsRef<Path>) -> rustix::io::Result<OwnedFd> {
    let flags = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path.as_ref(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn links_out_of_the_volume_are_refused_and_missing_directories_made() {
        let directory = tempfile::tempdir().expect("a directory");
        let volume = directory.path().join("v");
        fs::create_dir(&volume).expect("made");
        symlink("/etc", volume.join("etc")).expect("linked");
        symlink("..", volume.join("up")).expect("linked");
        symlink("real", volume.join("inside")).expect("linked");
        symlink("/proc/self/root", volume.join("magic")).expect("linked");
        fs::create_dir(volume.join("real")).expect("made");
        for bad in ["etc", "etc/passwd", "up", "../x", "/etc", "up/w", "magic/etc", "real/../../x"] {
            assert!(open(&volume, bad).is_err() && make(&volume, bad).is_err(), "{bad}");
        }
        assert!(!directory.path().join("w").exists() && !directory.path().join("x").exists());
        assert!(open(&volume, "inside").is_ok());
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o2775)).expect("changed");
        assert!(open(&volume, "a/b").is_err());
        make(&volume, "a/b").expect("made");
        for made in ["a", "a/b"] {
            let mode = fs::metadata(volume.join(made)).expect("there").mode();
            assert_eq!(mode & 0o7777, 0o2775, "{made}: as the volume's root, whatever the umask");
        }
        fs::write(volume.join("f"), "x").expect("written");
        assert!(open(&volume, "f").is_ok());
    }
}
