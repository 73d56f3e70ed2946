//! The root file system of a container: an overlay of its image's layers under a writable one.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, umount2};

/// The kernel takes at most a page of mount options.
const MAX_OPTIONS: usize = 4000;

/// Mounts the layers, the topmost first, on `target`. `dir` gets the writable layer.
pub fn mount(lower: &[PathBuf], dir: &Path, target: &Path) -> io::Result<()> {
    let (upper, work, empty) = (dir.join("upper"), dir.join("work"), dir.join("empty"));
    for dir in [&upper, &work, &target.to_path_buf()] {
        std::fs::create_dir_all(dir)?;
    }
    // An image may have no layers: all that there is in it is mounted there. overlayfs wants one.
    if lower.is_empty() {
        std::fs::create_dir_all(&empty)?;
    }
    let lower = if lower.is_empty() { std::slice::from_ref(&empty) } else { lower };
    let plain = options(lower.iter().map(|p| escape(p)), &escape(&upper), &escape(&work));
    if plain.len() <= MAX_OPTIONS {
        return mount_with(target, &plain);
    }
    // Named by descriptor numbers relative to /proc/self/fd, several hundred layers fit.
    let open = |p: &PathBuf| {
        std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(p)
    };
    let layers = lower.iter().map(open).collect::<io::Result<Vec<File>>>()?;
    let number = |f: &File| OsString::from(f.as_raw_fd().to_string());
    let short = options(layers.iter().map(number), &escape(&upper), &escape(&work));
    // The shim has one thread, so that its working directory is nobody else's business.
    std::env::set_current_dir("/proc/self/fd")?;
    let mounted = mount_with(target, &short);
    std::env::set_current_dir("/")?;
    mounted
}

/// Unmounts it; that it is not mounted is fine.
pub fn unmount(target: &Path) -> io::Result<()> {
    match umount2(target, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn mount_with(target: &Path, options: &OsString) -> io::Result<()> {
    let fs = Some("overlay");
    Ok(nix::mount::mount(fs, target, fs, MsFlags::empty(), Some(options.as_os_str()))?)
}

fn options(lower: impl Iterator<Item = OsString>, upper: &OsString, work: &OsString) -> OsString {
    let mut all = OsString::from("lowerdir=");
    for (n, layer) in lower.enumerate() {
        if n > 0 {
            all.push(":");
        }
        all.push(layer);
    }
    all.push(",upperdir=");
    all.push(upper);
    all.push(",workdir=");
    all.push(work);
    all
}

/// Colons separate layers and commas options: both are escaped in names.
fn escape(path: &Path) -> OsString {
    let text = path.to_string_lossy();
    text.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_escaped() {
        let lower = [PathBuf::from("/a:b"), PathBuf::from("/c,d")];
        let all = options(lower.iter().map(|p| escape(p)), &"/u".into(), &"/w".into());
        assert_eq!(all, "lowerdir=/a\\:b:/c\\,d,upperdir=/u,workdir=/w");
    }

    #[test]
    fn an_image_without_layers_is_an_empty_root() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("m");
        mount(&[], dir.path(), &target).unwrap();
        let written = std::fs::write(target.join("file"), "x");
        unmount(&target).unwrap();
        written.unwrap();
        assert!(dir.path().join("upper/file").exists());
    }
}
