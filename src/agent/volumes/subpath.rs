//! `subPath`: a part of a volume, resolved so that nothing a container does to the volume leads outside.
//!
//! The path is opened with `openat2(2)` and `RESOLVE_BENEATH`, missing directories are made one by one,
//! and what was opened, not its name, is bound to a place of its own, from which the container gets it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat2};

/// Binds `volume/sub_path` to `place`, which is returned.
pub(crate) fn prepare(volume: &Path, sub_path: &str, place: &Path) -> io::Result<PathBuf> {
    let opened = open_or_make(volume, sub_path)?;
    let meta = fs::File::from(opened.try_clone()?).metadata()?;
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    // A former attempt of the container may have its mount there.
    let _ = umount2(place, MntFlags::MNT_DETACH);
    if meta.is_dir() {
        fs::create_dir_all(place)?;
    } else {
        fs::OpenOptions::new().create(true).append(true).open(place)?;
    }
    let source = format!("/proc/self/fd/{}", opened.as_raw_fd());
    mount(Some(source.as_str()), place, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    Ok(place.to_path_buf())
}

fn open_or_make(volume: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    let plain =
        Path::new(sub_path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{sub_path:?} leads out of the volume"),
        ));
    }
    let root = open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    match beneath(&root, sub_path) {
        Err(rustix::io::Errno::NOENT) => {}
        result => return Ok(result?),
    }
    let mut path = PathBuf::new();
    for component in Path::new(sub_path).components() {
        let parent = if path.as_os_str().is_empty() { root.try_clone()? } else { beneath(&root, &path)? };
        path.push(component);
        match mkdirat(parent.as_fd(), component.as_os_str(), Mode::from(0o777)) {
            // Volumes are shared by users the node knows nothing of; kubelet makes these 0750 plus umask 0.
            Ok(()) => rustix::fs::chmodat(
                parent,
                component.as_os_str(),
                Mode::from(0o755),
                rustix::fs::AtFlags::empty(),
            )?,
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(beneath(&root, sub_path)?)
}

fn beneath(root: &OwnedFd, path: impl AsRef<Path>) -> rustix::io::Result<OwnedFd> {
    let flags = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path.as_ref(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_out_of_the_volume_are_refused_and_missing_directories_made() {
        let directory = tempfile::tempdir().expect("a directory");
        let volume = directory.path().join("v");
        fs::create_dir(&volume).expect("made");
        symlink("/etc", volume.join("etc")).expect("linked");
        symlink("..", volume.join("up")).expect("linked");
        symlink("real", volume.join("inside")).expect("linked");
        fs::create_dir(volume.join("real")).expect("made");
        for bad in ["etc", "etc/passwd", "up", "../x", "/etc", "up/w"] {
            assert!(open_or_make(&volume, bad).is_err(), "{bad}");
        }
        assert!(open_or_make(&volume, "inside").is_ok());
        open_or_make(&volume, "a/b").expect("made");
        assert!(volume.join("a/b").is_dir());
        fs::write(volume.join("f"), "x").expect("written");
        assert!(open_or_make(&volume, "f").is_ok());
    }
}
